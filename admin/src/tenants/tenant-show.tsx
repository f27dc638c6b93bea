import { Alert, Button } from "@mui/material";
import { useState } from "react";
import { Show, useRecordContext } from "react-admin";
import type { Tenant } from "../api/records.ts";
import { Facts } from "../shared/facts.tsx";
import { Moment, momentText, NOTHING } from "../shared/moments.tsx";
import { Panel } from "../shared/panel.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { SupportDialog } from "../support/support-dialog.tsx";
import { TenantDomains } from "./tenant-domains.tsx";
import { TenantStatusButtons } from "./tenant-status-buttons.tsx";
import { TenantUsagePanel } from "./tenant-usage.tsx";

/** One tenant: what it is, how much there is of it, its domains, and what can be done with it. */
export function TenantShow() {
  return (
    <Show title={<TenantTitle />} actions={false} component="div">
      <TenantPage />
    </Show>
  );
}

function TenantTitle() {
  const tenant = useRecordContext<Tenant>();
  return <span>{tenant?.name ?? "Tenant"}</span>;
}

function TenantPage() {
  const tenant = useRecordContext<Tenant>();
  useDocumentTitle(tenant?.name);
  if (!tenant) return null;
  return (
    <>
      <Panel title={tenant.name} actions={<StepIn tenant={tenant} />}>
        <Warnings tenant={tenant} />
        <Facts
          facts={[
            { label: "Status", value: <StateChip state={tenant.status} /> },
            { label: "Subdomain", value: tenant.subdomain },
            { label: "Schema", value: tenant.schema },
            { label: "Migration", value: <StateChip state={tenant.migration_state} /> },
            { label: "Version", value: tenant.version },
            { label: "Created", value: <Moment at={tenant.created_at} /> },
            { label: "Messages", value: tenant.sends_messages ? "Sent" : "Dropped" },
            { label: "Paid until", value: <Moment at={tenant.paid_until} /> },
            { label: "On trial", value: tenant.on_trial ? "Yes" : "No" },
            { label: "Own limits", value: limitsOf(tenant) },
          ]}
        />
      </Panel>
      <TenantUsagePanel tenantId={tenant.id} />
      <TenantDomains tenantId={tenant.id} />
      <Panel title="Life cycle">
        <TenantStatusButtons tenant={tenant} />
      </Panel>
    </>
  );
}

function limitsOf({ rate_limits: limits }: Tenant): string {
  const texts = Object.entries(limits).map(([scope, rate]) => `${scope} ${rate}`);
  return texts.length > 0 ? texts.join(", ") : NOTHING;
}

function Warnings({ tenant }: { readonly tenant: Tenant }) {
  return (
    <>
      {tenant.delete_after !== null && (
        <Alert severity="warning" sx={{ mb: 2 }}>
          It may be erased after {momentText(tenant.delete_after)}. Activating takes that back.
        </Alert>
      )}
      {tenant.last_error !== null && (
        <Alert severity="error" sx={{ mb: 2 }}>
          Its last migration failed: {tenant.last_error}
        </Alert>
      )}
    </>
  );
}

function StepIn({ tenant }: { readonly tenant: Tenant }) {
  const [isAsking, setIsAsking] = useState(false);
  if (tenant.status === "suspended") {
    return <span>Nobody can step in while it is suspended.</span>;
  }
  return (
    <>
      <Button variant="contained" onClick={() => setIsAsking(true)}>
        Step in
      </Button>
      {isAsking && <SupportDialog tenant={tenant} onClose={() => setIsAsking(false)} />}
    </>
  );
}
