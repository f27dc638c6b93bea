import { CreateButton, DataTable, List, SearchInput, SelectInput, TopToolbar } from "react-admin";
import type { Tenant } from "../api/records.ts";
import { Moment } from "../shared/moments.tsx";
import { RowLink, Rows } from "../shared/rows.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";

const STATUSES = [
  { id: "active", name: "Active" },
  { id: "read_only", name: "Read only" },
  { id: "suspended", name: "Suspended" },
];

const FILTERS = [
  <SearchInput key="search" source="search" alwaysOn placeholder="Name, subdomain or domain" />,
  <SelectInput key="status" source="status" alwaysOn choices={STATUSES} emptyText="Any" />,
];

const Column = DataTable.Col<Tenant>;

function Actions() {
  return (
    <TopToolbar>
      <CreateButton label="New tenant" />
    </TopToolbar>
  );
}

/** All tenants, oldest first. */
export function TenantList() {
  useDocumentTitle("Tenants");
  return (
    <List
      title="Tenants"
      filters={FILTERS}
      actions={<Actions />}
      perPage={25}
      exporter={false}
      empty={false}
    >
      <Rows<Tenant>
        isOpened
        short={{
          primary: ({ name }) => name,
          secondary: ({ subdomain, domains }) => domains[0] ?? subdomain,
          tertiary: ({ status }) => <StateChip state={status} />,
        }}
      >
        <Column source="id" label="Id" disableSort />
        <Column
          source="name"
          label="Name"
          disableSort
          render={({ id, name }) => <RowLink id={id}>{name}</RowLink>}
        />
        <Column source="subdomain" label="Subdomain" disableSort />
        <Column
          source="status"
          label="Status"
          disableSort
          render={({ status }) => <StateChip state={status} />}
        />
        <Column
          source="domains"
          label="Domain"
          disableSort
          render={({ domains }) => domains[0] ?? ""}
        />
        <Column
          source="migration_state"
          label="Schema"
          disableSort
          render={({ migration_state: state }) => <StateChip state={state} />}
        />
        <Column
          source="created_at"
          label="Created"
          disableSort
          render={({ created_at: at }) => <Moment at={at} />}
        />
      </Rows>
    </List>
  );
}
