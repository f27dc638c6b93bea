import { DataTable, NumberInput, ReferenceField, TextField, TextInput } from "react-admin";
import type { ActivityEntry } from "../api/records.ts";
import { COMPANY_FILTER } from "../companies/company-filter.tsx";
import { Moment } from "../shared/moments.tsx";
import { Rows } from "../shared/rows.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";
import { DetailsButton } from "./details-button.tsx";
import { LOG_FILTERS } from "./log-filters.tsx";
import { ChangedValues } from "./values.tsx";

const FILTERS = [
  COMPANY_FILTER,
  <TextInput key="entity_type" source="entity_type" label="Entity" alwaysOn sx={{ width: 150 }} />,
  <NumberInput
    key="entity_id"
    source="entity_id"
    label="Entity id"
    alwaysOn
    min={1}
    sx={{ width: 110 }}
  />,
  ...LOG_FILTERS,
];
const Column = DataTable.Col<ActivityEntry>;

function Details({ entry }: { readonly entry: ActivityEntry }) {
  return (
    <DetailsButton title={titleOf(entry)}>
      <ChangedValues before={entry.old_values} after={entry.new_values} />
    </DetailsButton>
  );
}

function titleOf({ action, entity_type: type, entity_id: id }: ActivityEntry): string {
  return `${action} ${type} ${id}`;
}

/** What was changed, newest first. */
export function ActivityList() {
  return (
    <ListInTenant title="Activity log" filters={FILTERS}>
      <Rows<ActivityEntry>
        short={{
          primary: titleOf,
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
        <Column
          source="entity_type"
          label="Entity"
          disableSort
          render={({ entity_type: type, entity_id: id }) => `${type} ${id}`}
        />
        <Column
          source="company"
          label="Company"
          disableSort
          render={(entry) => (
            <ReferenceField record={entry} source="company" reference="companies" link="show">
              <TextField source="name" />
            </ReferenceField>
          )}
        />
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
