import { Box } from "@mui/material";
import { Show, useRecordContext } from "react-admin";
import type { User } from "../api/records.ts";
import { callTenant } from "../api/requests.ts";
import { useCanWrite } from "../api/support-session.ts";
import { Facts } from "../shared/facts.tsx";
import { Moment, NOTHING } from "../shared/moments.tsx";
import { Panel } from "../shared/panel.tsx";
import { RowButton } from "../shared/row-button.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { InTenant } from "../support/in-tenant.tsx";
import { UserMemberships } from "./user-memberships.tsx";
import { stateOf } from "./user-list.tsx";

/** One user of the tenant. */
export function UserShow() {
  return (
    <InTenant>
      <Show title="User" actions={false} component="div">
        <UserPage />
      </Show>
    </InTenant>
  );
}

function UserPage() {
  const user = useRecordContext<User>();
  const canWrite = useCanWrite();
  useDocumentTitle(user?.full_name);
  if (!user) return null;
  return (
    <>
      <Panel title={user.full_name} actions={canWrite && <UserButtons user={user} />}>
        <Facts
          facts={[
            { label: "State", value: <StateChip state={stateOf(user)} /> },
            { label: "E-mail", value: user.email ?? NOTHING },
            { label: "Phone", value: user.primary_mobile },
            { label: "Username", value: user.username },
            { label: "Tenant admin", value: user.is_tenant_admin ? "Yes" : "No" },
            { label: "Second factor", value: user.is_2fa_enabled ? "On" : "Off" },
            { label: "Joined", value: <Moment at={user.date_joined} /> },
            { label: "Last login", value: <Moment at={user.last_login} /> },
          ]}
        />
      </Panel>
      <Panel title="Memberships">
        <UserMemberships userId={user.id} />
      </Panel>
    </>
  );
}

function UserButtons({ user }: { readonly user: User }) {
  const { id, full_name: name } = user;
  const path = `account/users/${id}/`;
  return (
    <Box sx={{ display: "flex", flexWrap: "wrap", gap: 0.5 }}>
      {user.is_active ? (
        <RowButton
          label="Deactivate"
          question={`Deactivate ${name}?`}
          consequence="Every login of theirs ends at once, and they cannot log in until they are activated. They are told."
          done={`${name} is deactivated.`}
          work={() => callTenant("PATCH", path, { is_active: false })}
          isDangerous
        />
      ) : (
        <RowButton
          label="Activate"
          question={`Activate ${name}?`}
          consequence="They can log in again, with what they were allowed before. They are told."
          done={`${name} is active.`}
          work={() => callTenant("PATCH", path, { is_active: true })}
        />
      )}
      {user.is_2fa_enabled && (
        <RowButton
          label="Reset second factor"
          question={`Take the second factor of ${name}?`}
          consequence="For somebody who has lost it: every login of theirs ends, and the next one asks for the password alone. They are told."
          done={`The second factor of ${name} is off.`}
          work={() => callTenant("POST", `${path}reset-2fa/`)}
          isDangerous
        />
      )}
    </Box>
  );
}
