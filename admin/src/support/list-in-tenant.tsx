import type { ReactElement, ReactNode } from "react";
import { List } from "react-admin";
import { useSupportSession } from "../api/support-session.ts";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { InTenant } from "./in-tenant.tsx";

/** A list of something of the tenant that the operator is in. Its page and filters are this tenant's. */
export function ListInTenant({
  title,
  filters,
  children,
}: {
  readonly title: string;
  readonly filters?: ReactElement[];
  readonly children: ReactNode;
}) {
  useDocumentTitle(title);
  const support = useSupportSession();
  return (
    <InTenant>
      <List
        title={title}
        {...(filters ? { filters } : {})}
        storeKey={`tenant-${support?.tenantId ?? 0}.${title}`}
        actions={false}
        perPage={25}
        exporter={false}
        empty={false}
      >
        {children}
      </List>
    </InTenant>
  );
}
