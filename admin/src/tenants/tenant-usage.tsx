import { Alert, Skeleton } from "@mui/material";
import { useQuery } from "@tanstack/react-query";
import { wordsFor } from "../api/problem.ts";
import type { TenantUsage } from "../api/records.ts";
import { callPlatform } from "../api/requests.ts";
import { Facts } from "../shared/facts.tsx";
import { Moment } from "../shared/moments.tsx";
import { Panel } from "../shared/panel.tsx";

/** How much there is of a tenant, and whether anybody uses it. */
export function TenantUsagePanel({ tenantId }: { readonly tenantId: number }) {
  const { data, error } = useQuery({
    queryKey: ["tenants", "usage", tenantId],
    queryFn: () => callPlatform<TenantUsage>("GET", `tenants/${tenantId}/usage/`),
  });
  return (
    <Panel title="Usage">
      {error && <Alert severity="error">{wordsFor(error)}</Alert>}
      {!data && !error && <Skeleton height={48} />}
      {data && (
        <Facts
          facts={[
            { label: "Users", value: count(data.users) },
            { label: "Active in 30 days", value: count(data.active_users) },
            { label: "Companies", value: count(data.companies) },
            { label: "Pending invitations", value: count(data.pending_invitations) },
            { label: "Activity entries (about)", value: count(data.activity_entries) },
            { label: "Security entries (about)", value: count(data.security_entries) },
            { label: "Size of its tables", value: bytesText(data.bytes) },
            { label: "Last login", value: <Moment at={data.last_login} /> },
          ]}
        />
      )}
    </Panel>
  );
}

const NUMBERS = new Intl.NumberFormat();

function count(number: number): string {
  return NUMBERS.format(number);
}

const UNITS = ["bytes", "KB", "MB", "GB", "TB"] as const;
const UNIT_BYTES = 1_024;

function bytesText(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= UNIT_BYTES && unit < UNITS.length - 1) {
    amount /= UNIT_BYTES;
    unit += 1;
  }
  return `${NUMBERS.format(amount < 10 ? Math.round(amount * 10) / 10 : Math.round(amount))} ${UNITS[unit]}`;
}
