import { Box, Button } from "@mui/material";
import { useState } from "react";
import { Confirm } from "react-admin";
import type { Tenant, TenantStatus } from "../api/records.ts";
import { callPlatform } from "../api/requests.ts";
import { useAction } from "../shared/use-action.ts";

/** Days until a tenant may be erased, as the API has it unless it is told otherwise. */
const GRACE_DAYS = 30;

/** Something that can be done with a tenant, and what it means for its people. */
interface Change {
  readonly label: string;
  readonly question: string;
  readonly consequence: string;
  readonly done: string;
  readonly isOffered: (tenant: Tenant) => boolean;
  readonly run: (id: number) => Promise<unknown>;
  readonly isDangerous?: boolean;
}

const becomes = (path: string) => (id: number) => callPlatform("POST", `tenants/${id}/${path}/`);
const isNot = (status: TenantStatus) => (tenant: Tenant) => tenant.status !== status;

const CHANGES: readonly Change[] = [
  {
    label: "Activate",
    question: "Activate %?",
    consequence: "Its people can log in and work again at once. A planned erasure is taken back.",
    done: "% is active.",
    isOffered: (tenant) => tenant.status !== "active" || tenant.delete_after !== null,
    run: becomes("activate"),
  },
  {
    label: "Make read-only",
    question: "Make % read-only?",
    consequence:
      "Whoever is logged in can look, nobody can change anything, and nobody can log in anew until it is activated.",
    done: "% can be read, not changed.",
    isOffered: isNot("read_only"),
    run: becomes("read-only"),
  },
  {
    label: "Suspend",
    question: "Suspend %?",
    consequence:
      "Every request of its people is refused at once, also of those who are logged in. Nothing is deleted; activating takes it back.",
    done: "% is suspended.",
    isOffered: isNot("suspended"),
    run: becomes("suspend"),
    isDangerous: true,
  },
  {
    label: "Delete",
    question: "Delete %?",
    consequence: `It is suspended at once and may be erased after ${GRACE_DAYS} days, by whoever is at the server. Until then activating takes it back.`,
    done: `% is suspended and may be erased after ${GRACE_DAYS} days.`,
    isOffered: ({ delete_after: after }) => after === null,
    run: (id) => callPlatform("DELETE", `tenants/${id}/?grace_days=${GRACE_DAYS}`),
    isDangerous: true,
  },
];

/** The changes of a tenant's state that make sense now, each asked about first. */
export function TenantStatusButtons({ tenant }: { readonly tenant: Tenant }) {
  const [asked, setAsked] = useState<Change>();
  const { isRunning, run } = useAction();
  const words = (text: string) => text.replace("%", tenant.name);
  const confirm = async (change: Change) => {
    await run(() => change.run(tenant.id), words(change.done));
    setAsked(undefined);
  };
  return (
    <Box sx={{ display: "flex", flexWrap: "wrap", gap: 1 }}>
      {CHANGES.filter(({ isOffered }) => isOffered(tenant)).map((change) => (
        <Button
          key={change.label}
          variant="outlined"
          color={change.isDangerous ? "error" : "primary"}
          onClick={() => setAsked(change)}
        >
          {change.label}
        </Button>
      ))}
      {asked && (
        <Confirm
          isOpen
          title={words(asked.question)}
          content={asked.consequence}
          confirm={asked.label}
          confirmColor={asked.isDangerous ? "warning" : "primary"}
          loading={isRunning}
          onConfirm={() => void confirm(asked)}
          onClose={() => setAsked(undefined)}
        />
      )}
    </Box>
  );
}
