import { Typography } from "@mui/material";
import { Link, ReferenceField, TextField, useGetManyReference } from "react-admin";
import { PAGE_SIZE_MAX } from "../api/data-provider.ts";
import type { Membership, MembershipRole } from "../api/records.ts";
import { Facts } from "../shared/facts.tsx";

const ALL = { pagination: { page: 1, perPage: PAGE_SIZE_MAX } };

/** In which companies a user is, and as what. */
export function UserMemberships({ userId }: { readonly userId: number }) {
  const { data: memberships = [], isPending } = useGetManyReference<Membership>("memberships", {
    ...ALL,
    target: "user",
    id: userId,
  });
  const { data: roles = [] } = useGetManyReference<MembershipRole>("membership-roles", {
    ...ALL,
    target: "user",
    id: userId,
  });
  if (isPending) return null;
  if (memberships.length === 0) {
    return <Typography sx={{ color: "text.secondary" }}>In no company.</Typography>;
  }
  return (
    <Facts
      facts={memberships.map((membership) => ({
        label: `Membership ${membership.id}${membership.is_active ? "" : " (deactivated)"}`,
        value: (
          <>
            <ReferenceField record={membership} source="company" reference="companies" link="show">
              <TextField source="name" />
            </ReferenceField>{" "}
            {roles
              .filter(({ user_company: { id } }) => id === membership.id)
              .map(({ id, role }) => (
                <Link key={id} to={`/roles/${role.id}/show`} sx={{ mr: 0.75 }}>
                  {role.role}
                </Link>
              ))}
          </>
        ),
      }))}
    />
  );
}
