import {
  DataTable,
  NumberInput,
  ReferenceInput,
  SelectInput,
  TextInput,
  useRecordContext,
} from "react-admin";
import { PAGE_SIZE_MAX } from "../api/data-provider.ts";
import type { ActivityEntry } from "../api/records.ts";
import { Moment } from "../shared/moments.tsx";
import { Rows } from "../shared/rows.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";
import { LOG_FILTERS } from "./log-filters.tsx";
import { ChangedValues } from "./values.tsx";

const FILTERS = [
  <ReferenceInput
    key="company"
    source="company"
    reference="companies"
    alwaysOn
    perPage={PAGE_SIZE_MAX}
  >
    <SelectInput label="Company" optionText="name" emptyText="Any" />
  </ReferenceInput>,
  <TextInput key="entity_type" source="entity_type" label="Entity" alwaysOn resettable />,
  <NumberInput key="entity_id" source="entity_id" label="Entity id" alwaysOn min={1} />,
  ...LOG_FILTERS,
];
const Column = DataTable.Col<ActivityEntry>;

function Details() {
  const entry = useRecordContext<ActivityEntry>();
  if (!entry) return null;
  return <ChangedValues before={entry.old_values} after={entry.new_values} />;
}

/** What was changed, newest first. */
export function ActivityList() {
  return (
    <ListInTenant title="Activity log" filters={FILTERS}>
      <Rows<ActivityEntry>
        expand={<Details />}
        short={{
          primary: ({ action, entity_type: type, entity_id: id }) => `${action} ${type} ${id}`,
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
        <Column
          source="entity_type"
          label="Entity"
          disableSort
          render={({ entity_type: type, entity_id: id }) => `${type} ${id}`}
        />
        <Column source="company" label="Company" disableSort />
        <Column source="ip_address" label="Address" disableSort />
      </Rows>
    </ListInTenant>
  );
}
