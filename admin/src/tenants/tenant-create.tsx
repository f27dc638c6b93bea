import {
  Button,
  Dialog,
  DialogActions,
  DialogContent,
  DialogContentText,
  DialogTitle,
} from "@mui/material";
import { useState } from "react";
import {
  Create,
  email,
  required,
  SaveButton,
  SimpleForm,
  TextInput,
  Toolbar,
  useRedirect,
} from "react-admin";
import type { Tenant } from "../api/records.ts";
import { Copyable } from "../shared/copyable.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";

type Created = Tenant & { readonly password_link: string | null };

/** A new tenant with its owner, and once the link with which the owner sets a password. */
export function TenantCreate() {
  useDocumentTitle("New tenant");
  const [created, setCreated] = useState<Created>();
  return (
    <>
      <Create<Created>
        title="New tenant"
        redirect={false}
        mutationOptions={{ onSuccess: setCreated }}
      >
        <SimpleForm sx={{ maxWidth: 560 }} toolbar={<CreateToolbar />}>
          <TextInput source="name" label="Name" validate={required()} autoFocus />
          <TextInput
            source="subdomain"
            label="Subdomain"
            validate={required()}
            helperText="3 to 63 letters, digits and dashes"
          />
          <TextInput source="owner.full_name" label="Owner’s name" validate={required()} />
          <TextInput source="owner.email" label="Owner’s e-mail" validate={[required(), email()]} />
          <TextInput
            source="owner.phone"
            label="Owner’s phone"
            type="tel"
            validate={required()}
            helperText="In international form, such as +201001234567"
          />
        </SimpleForm>
      </Create>
      {created && <CreatedDialog tenant={created} />}
    </>
  );
}

function CreateToolbar() {
  return (
    <Toolbar>
      <SaveButton label="Create the tenant" icon={false} alwaysEnable />
    </Toolbar>
  );
}

function CreatedDialog({
  tenant: { id, name, password_link: link },
}: {
  readonly tenant: Created;
}) {
  const redirect = useRedirect();
  const close = () => redirect(`/tenants/${id}/show`);
  return (
    <Dialog open onClose={close} fullWidth maxWidth="sm" aria-labelledby="created-title">
      <DialogTitle id="created-title">{name} is ready</DialogTitle>
      <DialogContent>
        {link === null ? (
          <DialogContentText>The owner can log in.</DialogContentText>
        ) : (
          <>
            <DialogContentText sx={{ mb: 1 }}>
              The owner sets a password with this link, within 72 hours and once. It is shown only
              now: hand it over before you close this.
            </DialogContentText>
            <Copyable label="the link" text={link} />
          </>
        )}
      </DialogContent>
      <DialogActions>
        <Button variant="contained" autoFocus onClick={close}>
          Show the tenant
        </Button>
      </DialogActions>
    </Dialog>
  );
}
