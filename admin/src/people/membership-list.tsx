import { DataTable, ReferenceField, TextField } from "react-admin";
import type { Membership } from "../api/records.ts";
import { callTenant } from "../api/requests.ts";
import { useCanWrite } from "../api/support-session.ts";
import { COMPANY_FILTER } from "../companies/company-filter.tsx";
import { Moment } from "../shared/moments.tsx";
import { RowButton } from "../shared/row-button.tsx";
import { Rows } from "../shared/rows.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";
import { stateOf } from "./user-list.tsx";

const FILTERS = [COMPANY_FILTER];

const Column = DataTable.Col<Membership>;

function Person({ row }: { readonly row: Membership }) {
  return (
    <ReferenceField
      record={row}
      source="user"
      reference="users"
      link="show"
      emptyText={`User ${row.user}`}
    >
      <TextField source="full_name" />
    </ReferenceField>
  );
}

function CompanyName({ row }: { readonly row: Membership }) {
  return (
    <ReferenceField
      record={row}
      source="company"
      reference="companies"
      link="show"
      emptyText={`Company ${row.company}`}
    >
      <TextField source="name" />
    </ReferenceField>
  );
}

/** Who belongs to which company. */
export function MembershipList() {
  const canWrite = useCanWrite();
  return (
    <ListInTenant title="Memberships" filters={FILTERS}>
      <Rows<Membership>
        short={{
          primary: (row) => <Person row={row} />,
          secondary: (row) => <CompanyName row={row} />,
          tertiary: (row) => <StateChip state={stateOf(row)} />,
        }}
      >
        <Column source="id" label="Id" disableSort />
        <Column source="user" label="User" disableSort render={(row) => <Person row={row} />} />
        <Column
          source="company"
          label="Company"
          disableSort
          render={(row) => <CompanyName row={row} />}
        />
        <Column
          source="is_primary_company"
          label="Primary"
          disableSort
          render={({ is_primary_company: isPrimary }) => (isPrimary ? "Yes" : "")}
        />
        <Column
          source="is_active"
          label="State"
          disableSort
          render={(row) => <StateChip state={stateOf(row)} />}
        />
        <Column
          source="created_at"
          label="Since"
          disableSort
          render={({ created_at: at }) => <Moment at={at} />}
        />
        {canWrite && (
          <Column
            source="actions"
            label={false}
            disableSort
            render={(row) => <ToggleButton row={row} />}
          />
        )}
      </Rows>
    </ListInTenant>
  );
}

function ToggleButton({ row }: { readonly row: Membership }) {
  const { id, user, company, is_primary_company, is_active } = row;
  const put = (isActive: boolean) =>
    callTenant("PUT", `access-control/user-companies/${id}/`, {
      user,
      company,
      is_primary_company,
      is_active: isActive,
    });
  return is_active ? (
    <RowButton
      label="Deactivate"
      question="Deactivate this membership?"
      consequence="The user does not see the company any more. Their roles there stay, and count again once it is active."
      done="The membership is deactivated."
      work={() => put(false)}
      isDangerous
    />
  ) : (
    <RowButton
      label="Activate"
      question="Activate this membership?"
      consequence="The user sees the company again, with the roles they had."
      done="The membership is active."
      work={() => put(true)}
    />
  );
}
