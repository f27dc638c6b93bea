import { DataTable, SearchInput } from "react-admin";
import type { User } from "../api/records.ts";
import { COMPANY_FILTER } from "../companies/company-filter.tsx";
import { Moment } from "../shared/moments.tsx";
import { RowLink, Rows } from "../shared/rows.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";

const FILTERS = [
  <SearchInput key="search" source="search" alwaysOn placeholder="Name, e-mail or phone" />,
  COMPANY_FILTER,
];

const Column = DataTable.Col<User>;

/** The users of the tenant, by name. */
export function UserList() {
  return (
    <ListInTenant title="Users" filters={FILTERS}>
      <Rows<User>
        isOpened
        short={{
          primary: ({ full_name: name }) => name,
          secondary: ({ email, primary_mobile: phone }) => email ?? phone,
          tertiary: (user) => <StateChip state={stateOf(user)} />,
        }}
      >
        <Column source="id" label="Id" disableSort />
        <Column
          source="full_name"
          label="Name"
          disableSort
          render={({ id, full_name: name }) => <RowLink id={id}>{name}</RowLink>}
        />
        <Column source="email" label="E-mail" disableSort />
        <Column source="primary_mobile" label="Phone" disableSort />
        <Column
          source="is_active"
          label="State"
          disableSort
          render={(user) => <StateChip state={stateOf(user)} />}
        />
        <Column
          source="is_tenant_admin"
          label="Tenant admin"
          disableSort
          render={({ is_tenant_admin: isAdmin }) => (isAdmin ? "Yes" : "")}
        />
        <Column
          source="is_2fa_enabled"
          label="Second factor"
          disableSort
          render={({ is_2fa_enabled: isOn }) => (isOn ? "On" : "Off")}
        />
        <Column
          source="last_login"
          label="Last login"
          disableSort
          render={({ last_login: at }) => <Moment at={at} />}
        />
      </Rows>
    </ListInTenant>
  );
}

/** The word for a user or a membership that counts, or does not. */
export function stateOf({ is_active: isActive }: Pick<User, "is_active">): string {
  return isActive ? "active" : "deactivated";
}
