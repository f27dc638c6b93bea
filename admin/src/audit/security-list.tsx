import { DataTable } from "react-admin";
import type { SecurityEntry } from "../api/records.ts";
import { Moment } from "../shared/moments.tsx";
import { Rows } from "../shared/rows.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";
import { DetailsButton } from "./details-button.tsx";
import { LOG_FILTERS } from "./log-filters.tsx";
import { ChangedValues } from "./values.tsx";

const Column = DataTable.Col<SecurityEntry>;

function Details({ entry }: { readonly entry: SecurityEntry }) {
  return (
    <DetailsButton title={`${entry.action} of ${entry.user_display}`}>
      <ChangedValues after={entry.metadata} />
    </DetailsButton>
  );
}

/** What happened to the tenant's accounts, newest first; the stays of operators are among it. */
export function SecurityList() {
  return (
    <ListInTenant title="Security log" filters={LOG_FILTERS}>
      <Rows<SecurityEntry>
        short={{
          primary: ({ action }) => action,
          secondary: ({ user_display: who, created_at: at }) => (
            <>
              {who} · <Moment at={at} />
            </>
          ),
          tertiary: (entry) => <Details entry={entry} />,
        }}
      >
        <Column
          source="created_at"
          label="When"
          disableSort
          render={({ created_at: at }) => <Moment at={at} />}
        />
        <Column source="user_display" label="Who" disableSort />
        <Column source="action" label="Action" disableSort />
        <Column source="ip_address" label="Address" disableSort />
        <Column
          source="id"
          label={false}
          disableSort
          render={(entry) => <Details entry={entry} />}
        />
      </Rows>
    </ListInTenant>
  );
}
