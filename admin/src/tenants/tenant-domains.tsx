import { Alert, Box, Button, TextField, Typography } from "@mui/material";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Confirm } from "react-admin";
import { wordsFor } from "../api/problem.ts";
import type { TenantDomain } from "../api/records.ts";
import { callPlatform } from "../api/requests.ts";
import { Copyable } from "../shared/copyable.tsx";
import { Panel } from "../shared/panel.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { useAction } from "../shared/use-action.ts";

/** A tenant's own host names, with the record that shows whose they are. */
export function TenantDomains({ tenantId }: { readonly tenantId: number }) {
  const path = `tenants/${tenantId}/domains/`;
  const { data = [], error } = useQuery({
    queryKey: ["tenants", "domains", tenantId],
    queryFn: () => callPlatform<TenantDomain[]>("GET", path),
  });
  return (
    <Panel title="Domains">
      {error && <Alert severity="error">{wordsFor(error)}</Alert>}
      {data.length === 0 && !error && (
        <Typography sx={{ color: "text.secondary", mb: 1.5 }}>
          None of its own: it is reached by its subdomain.
        </Typography>
      )}
      {data.map((domain) => (
        <Domain key={domain.id} path={path} domain={domain} />
      ))}
      <NewDomain path={path} />
    </Panel>
  );
}

function Domain({
  path,
  domain: { id, domain, is_primary: isPrimary, record },
}: {
  readonly path: string;
  readonly domain: TenantDomain;
}) {
  const [isRemoving, setIsRemoving] = useState(false);
  const { isRunning, run } = useAction();
  const remove = async () => {
    await run(() => callPlatform("DELETE", `${path}${id}/`), `${domain} is removed.`);
    setIsRemoving(false);
  };
  return (
    <Box sx={{ py: 1, mb: 1, borderBottom: 1, borderColor: "divider" }}>
      <Box sx={{ display: "flex", flexWrap: "wrap", gap: 1, alignItems: "center" }}>
        <Typography component="h3" sx={{ fontWeight: 600, overflowWrap: "anywhere" }}>
          {domain}
        </Typography>
        <StateChip state={record ? "waiting" : "verified"} />
        {isPrimary && <StateChip state="primary" />}
        <Box sx={{ flexGrow: 1 }} />
        {record && (
          <Button
            size="small"
            loading={isRunning}
            onClick={() =>
              void run(() => callPlatform("POST", `${path}${id}/verify/`), `${domain} is verified.`)
            }
          >
            Verify
          </Button>
        )}
        <Button size="small" color="error" onClick={() => setIsRemoving(true)}>
          Remove
        </Button>
      </Box>
      {record && (
        <Box sx={{ mt: 0.5 }}>
          <Typography sx={{ color: "text.secondary" }}>
            It names nobody yet. Make this TXT record, then verify:
          </Typography>
          <Copyable label="the record’s name" text={record.name} />
          <Copyable label="the record’s value" text={record.value} />
        </Box>
      )}
      <Confirm
        isOpen={isRemoving}
        title={`Remove ${domain}?`}
        content="It names nobody from now on: who uses it cannot reach the tenant by it any more."
        confirm="Remove"
        confirmColor="warning"
        loading={isRunning}
        onConfirm={() => void remove()}
        onClose={() => setIsRemoving(false)}
      />
    </Box>
  );
}

function NewDomain({ path }: { readonly path: string }) {
  const [domain, setDomain] = useState("");
  const { isRunning, run } = useAction();
  const add = async (event: FormEvent) => {
    event.preventDefault();
    const isAdded = await run(
      () => callPlatform("POST", path, { domain: domain.trim() }),
      `${domain.trim()} is noted: make its TXT record now.`,
    );
    if (isAdded) setDomain("");
  };
  return (
    <Box
      component="form"
      onSubmit={(event) => void add(event)}
      sx={{ display: "flex", flexWrap: "wrap", gap: 1, alignItems: "center" }}
    >
      <TextField
        label="New domain"
        placeholder="app.acme.example"
        size="small"
        required
        value={domain}
        onChange={(event) => setDomain(event.target.value)}
        sx={{ m: 0, flex: "0 1 320px" }}
      />
      <Button type="submit" variant="outlined" loading={isRunning}>
        Add
      </Button>
    </Box>
  );
}
