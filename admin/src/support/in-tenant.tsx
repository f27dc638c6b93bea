import { Alert } from "@mui/material";
import type { ReactNode } from "react";
import { Link } from "react-admin";
import { useSupportSession } from "../api/support-session.ts";
import { useSecondsLeft } from "./use-seconds-left.ts";

/** A page of the tenant that the operator is in; words where they are in none, or not any more. */
export function InTenant({ children }: { readonly children: ReactNode }) {
  const support = useSupportSession();
  const left = useSecondsLeft(support?.expiresAt ?? 0);
  if (!support) {
    return (
      <Alert severity="info" sx={{ my: 2 }}>
        This page is of one tenant. Choose it under <Link to="/tenants">Tenants</Link> and step in.
      </Alert>
    );
  }
  if (left === 0) {
    return (
      <Alert severity="info" sx={{ my: 2 }}>
        Your time in {support.tenantName} is over, so nothing of it is shown any more. “Extend” asks
        for 15 minutes more, with the same reason; the tenant’s security log tells of both.
      </Alert>
    );
  }
  // Another tenant's rows are other rows, whatever their ids.
  return <div key={support.tenantId}>{children}</div>;
}
