import { Chip, Box, Typography } from "@mui/material";
import {
  DataTable,
  ReferenceField,
  SearchInput,
  Show,
  TextField,
  useGetManyReference,
  useRecordContext,
} from "react-admin";
import { PAGE_SIZE_MAX } from "../api/data-provider.ts";
import type { Role, RolePermission } from "../api/records.ts";
import { COMPANY_FILTER } from "../companies/company-filter.tsx";
import { Facts } from "../shared/facts.tsx";
import { NOTHING } from "../shared/moments.tsx";
import { Panel } from "../shared/panel.tsx";
import { RowLink, Rows } from "../shared/rows.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { InTenant } from "../support/in-tenant.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";

const FILTERS = [<SearchInput key="search" source="search" alwaysOn />, COMPANY_FILTER];
const Column = DataTable.Col<Role>;

/** Whose role it is: a company's, or everybody's. */
function Holder({ role }: { readonly role: Role }) {
  if (role.company === null) return "Every company";
  return (
    <ReferenceField record={role} source="company" reference="companies" link="show">
      <TextField source="name" />
    </ReferenceField>
  );
}

/** The roles of every company, and those that all have. */
export function RoleList() {
  return (
    <ListInTenant title="Roles" filters={FILTERS}>
      <Rows<Role>
        isOpened
        short={{
          primary: ({ role }) => role,
          secondary: ({ desc }) => desc,
          tertiary: ({ is_system_role: isSystem }) => (isSystem ? "System" : ""),
        }}
      >
        <Column source="id" label="Id" disableSort />
        <Column
          source="role"
          label="Role"
          disableSort
          render={({ id, role }) => <RowLink id={id}>{role}</RowLink>}
        />
        <Column source="desc" label="Description" disableSort />
        <Column source="company" label="Of" disableSort render={(role) => <Holder role={role} />} />
        <Column
          source="is_system_role"
          label="Kind"
          disableSort
          render={({ is_system_role: isSystem }) => (isSystem ? "System" : "Own")}
        />
      </Rows>
    </ListInTenant>
  );
}

/** A role, and what it allows. */
export function RoleShow() {
  return (
    <InTenant>
      <Show title="Role" actions={false} component="div">
        <RolePage />
      </Show>
    </InTenant>
  );
}

function RolePage() {
  const role = useRecordContext<Role>();
  useDocumentTitle(role?.role);
  if (!role) return null;
  return (
    <>
      <Panel title={role.role}>
        <Facts
          facts={[
            { label: "Of", value: <Holder role={role} /> },
            { label: "Kind", value: role.is_system_role ? "System" : "Own" },
            { label: "Description", value: role.desc || NOTHING },
          ]}
        />
      </Panel>
      <Panel title="What it allows">
        <Allowed roleId={role.id} />
      </Panel>
    </>
  );
}

function Allowed({ roleId }: { readonly roleId: number }) {
  const { data = [], isPending } = useGetManyReference<RolePermission>("role-permissions", {
    target: "role",
    id: roleId,
    pagination: { page: 1, perPage: PAGE_SIZE_MAX },
  });
  if (isPending) return null;
  if (data.length === 0) return <Typography sx={{ color: "text.secondary" }}>Nothing.</Typography>;
  return (
    <Box sx={{ display: "flex", flexWrap: "wrap", gap: 0.75 }}>
      {data.map(({ id, permission_code: code, granted }) => (
        <Chip
          key={id}
          size="small"
          variant="outlined"
          color={granted ? "default" : "error"}
          label={granted ? code : `${code} (denied)`}
        />
      ))}
    </Box>
  );
}
