import { DataTable, ReferenceField, SelectInput, TextField } from "react-admin";
import type { Invitation } from "../api/records.ts";
import { callTenant } from "../api/requests.ts";
import { useCanWrite } from "../api/support-session.ts";
import { COMPANY_FILTER } from "../companies/company-filter.tsx";
import { Moment } from "../shared/moments.tsx";
import { RowButton } from "../shared/row-button.tsx";
import { Rows } from "../shared/rows.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";

const STATUSES = ["pending", "accepted", "revoked", "expired"].map((id) => ({
  id,
  name: id.replace(/^./, (first) => first.toUpperCase()),
}));

const FILTERS = [
  <SelectInput
    key="status"
    source="status"
    label="Status"
    alwaysOn
    choices={STATUSES}
    emptyText="Any"
  />,
  COMPANY_FILTER,
];

const Column = DataTable.Col<Invitation>;

/** Who was invited, and what became of it. */
export function InvitationList() {
  const canWrite = useCanWrite();
  return (
    <ListInTenant title="Invitations" filters={FILTERS}>
      <Rows<Invitation>
        short={{
          primary: ({ email }) => email,
          secondary: (row) => (
            <>
              until <Moment at={row.expires_at} /> {canWrite && <Buttons row={row} />}
            </>
          ),
          tertiary: ({ status }) => <StateChip state={status} />,
        }}
      >
        <Column source="id" label="Id" disableSort />
        <Column source="email" label="E-mail" disableSort />
        <Column
          source="company"
          label="Company"
          disableSort
          render={(row) => (
            <ReferenceField record={row} source="company" reference="companies" link="show">
              <TextField source="name" />
            </ReferenceField>
          )}
        />
        <Column
          source="role"
          label="Role"
          disableSort
          render={(row) => (
            <ReferenceField record={row} source="role" reference="roles" link="show">
              <TextField source="role" />
            </ReferenceField>
          )}
        />
        <Column
          source="status"
          label="Status"
          disableSort
          render={({ status }) => <StateChip state={status} />}
        />
        <Column
          source="expires_at"
          label="Until"
          disableSort
          render={({ expires_at: at }) => <Moment at={at} />}
        />
        <Column
          source="created_at"
          label="Invited"
          disableSort
          render={({ created_at: at }) => <Moment at={at} />}
        />
        {canWrite && (
          <Column
            source="actions"
            label={false}
            disableSort
            render={(row) => <Buttons row={row} />}
          />
        )}
      </Rows>
    </ListInTenant>
  );
}

function Buttons({ row: { id, email, status } }: { readonly row: Invitation }) {
  if (status !== "pending") return null;
  const path = `access-control/invitations/${id}/`;
  return (
    <>
      <RowButton
        label="Resend"
        question={`Send ${email} another link?`}
        consequence="The link that was sent before stops working, and the time to accept begins anew."
        done={`${email} gets another link.`}
        work={() => callTenant("POST", `${path}resend/`)}
      />
      <RowButton
        label="Revoke"
        question={`Revoke the invitation of ${email}?`}
        consequence="The link that was sent stops working at once."
        done={`The invitation of ${email} is revoked.`}
        work={() => callTenant("POST", `${path}revoke/`)}
        isDangerous
      />
    </>
  );
}
