import { DataTable, useRecordContext } from "react-admin";
import type { SecurityEntry } from "../api/records.ts";
import { Moment } from "../shared/moments.tsx";
import { Rows } from "../shared/rows.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";
import { LOG_FILTERS } from "./log-filters.tsx";
import { ChangedValues } from "./values.tsx";

const Column = DataTable.Col<SecurityEntry>;

function Details() {
  const entry = useRecordContext<SecurityEntry>();
  return entry ? <ChangedValues after={entry.metadata} /> : null;
}

/** What happened to the tenant's accounts, newest first; the stays of operators are among it. */
export function SecurityList() {
  return (
    <ListInTenant title="Security log" filters={LOG_FILTERS}>
      <Rows<SecurityEntry>
        expand={<Details />}
        short={{
          primary: ({ action }) => action,
          secondary: ({ user_display: who, created_at: at }) => (
            <>
              {who} · <Moment at={at} />
            </>
          ),
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
      </Rows>
    </ListInTenant>
  );
}
