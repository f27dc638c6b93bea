import { DataTable, SearchInput } from "react-admin";
import type { Permission } from "../api/records.ts";
import { Rows } from "../shared/rows.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";

const FILTERS = [
  <SearchInput key="search" source="search" alwaysOn placeholder="Code or description" />,
];
const Column = DataTable.Col<Permission>;

/** What can be allowed in this tenant. */
export function PermissionList() {
  return (
    <ListInTenant title="Permissions" filters={FILTERS}>
      <Rows<Permission>
        short={{ primary: ({ code }) => code, secondary: ({ description }) => description }}
      >
        <Column source="code" label="Code" disableSort />
        <Column source="module" label="Module" disableSort />
        <Column source="description" label="Description" disableSort />
        <Column
          source="is_built_in"
          label="Kind"
          disableSort
          render={({ is_built_in: isBuiltIn }) => (isBuiltIn ? "Built in" : "Own")}
        />
      </Rows>
    </ListInTenant>
  );
}
