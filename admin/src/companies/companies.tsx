import { Box } from "@mui/material";
import {
  DataTable,
  ReferenceField,
  SearchInput,
  Show,
  TextField,
  useRecordContext,
} from "react-admin";
import type { Company, CompanyListItem } from "../api/records.ts";
import { callTenant } from "../api/requests.ts";
import { useCanWrite } from "../api/support-session.ts";
import { Facts } from "../shared/facts.tsx";
import { Moment, NOTHING } from "../shared/moments.tsx";
import { Panel } from "../shared/panel.tsx";
import { RowButton } from "../shared/row-button.tsx";
import { RowLink, Rows } from "../shared/rows.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { InTenant } from "../support/in-tenant.tsx";
import { ListInTenant } from "../support/list-in-tenant.tsx";
import { CompanySettingsPanel } from "./company-settings.tsx";

const FILTERS = [<SearchInput key="search" source="search" alwaysOn />];
const Column = DataTable.Col<CompanyListItem>;

/** The companies of the tenant. */
export function CompanyList() {
  return (
    <ListInTenant title="Companies" filters={FILTERS}>
      <Rows<CompanyListItem>
        isOpened
        short={{
          primary: ({ name }) => name,
          secondary: ({ created_at: at }) => <Moment at={at} />,
          tertiary: ({ status }) => <StateChip state={status} />,
        }}
      >
        <Column source="id" label="Id" disableSort />
        <Column
          source="name"
          label="Name"
          render={({ id, name }) => <RowLink id={id}>{name}</RowLink>}
        />
        <Column
          source="status"
          label="Status"
          disableSort
          render={({ status }) => <StateChip state={status} />}
        />
        <Column
          source="is_parent_company"
          label="Parent"
          disableSort
          render={({ is_parent_company: isParent }) => (isParent ? "Yes" : "")}
        />
        <Column
          source="created_at"
          label="Created"
          render={({ created_at: at }) => <Moment at={at} />}
        />
      </Rows>
    </ListInTenant>
  );
}

/** A company with its settings. */
export function CompanyShow() {
  return (
    <InTenant>
      <Show title="Company" actions={false} component="div">
        <CompanyPage />
      </Show>
    </InTenant>
  );
}

function CompanyPage() {
  const company = useRecordContext<CompanyListItem | Company>();
  const canWrite = useCanWrite();
  useDocumentTitle(company?.name);
  // At first it may be the row of a list, until the whole is there.
  if (!company || !("settings" in company)) return null;
  return (
    <>
      <Panel title={company.name} actions={canWrite && <CompanyButtons company={company} />}>
        <Facts
          facts={[
            { label: "Status", value: <StateChip state={company.status} /> },
            { label: "Description", value: company.description || NOTHING },
            { label: "Address", value: company.address || NOTHING },
            { label: "Below", value: <Parent company={company} /> },
            {
              label: "Made by",
              value: (
                <ReferenceField record={company} source="create_by" reference="users" link="show">
                  <TextField source="full_name" />
                </ReferenceField>
              ),
            },
            { label: "Created", value: <Moment at={company.created_at} /> },
            { label: "Changed", value: <Moment at={company.updated_at} /> },
          ]}
        />
      </Panel>
      <CompanySettingsPanel company={company} />
    </>
  );
}

function Parent({ company }: { readonly company: Company }) {
  if (company.parent_company === null) return NOTHING;
  return (
    <ReferenceField record={company} source="parent_company" reference="companies" link="show">
      <TextField source="name" />
    </ReferenceField>
  );
}

function CompanyButtons({ company: { id, name, status } }: { readonly company: Company }) {
  const become = (next: Company["status"]) => () =>
    callTenant("PATCH", `company/${id}/`, { status: next });
  return (
    <Box sx={{ display: "flex", gap: 0.5 }}>
      {status === "active" ? (
        <RowButton
          label="Deactivate"
          question={`Deactivate ${name}?`}
          consequence="Applications treat it as closed. It can be activated again."
          done={`${name} is deactivated.`}
          work={become("deactivated")}
          isDangerous
        />
      ) : (
        <RowButton
          label="Activate"
          question={`Activate ${name}?`}
          consequence="It is open again, with its members and roles."
          done={`${name} is active.`}
          work={become("active")}
        />
      )}
    </Box>
  );
}
