import { Alert, Typography } from "@mui/material";
import type { MouseEvent, ReactNode } from "react";
import {
  DataTable,
  Link,
  type RaRecord,
  SimpleList,
  useCreatePath,
  useListContext,
  useResourceContext,
} from "react-admin";
import { wordsFor } from "../api/problem.ts";
import { useIsPhone } from "./use-is-phone.ts";

/** A row where there is no room for columns. */
export interface ShortRow<Row> {
  readonly primary: (row: Row) => ReactNode;
  readonly secondary: (row: Row) => ReactNode;
  readonly tertiary?: (row: Row) => ReactNode;
}

/**
 * The rows of a list: a table, and on a phone one line after the other.
 *
 * @param props.short how a row looks on a phone
 * @param props.isOpened whether a row leads to a page of its own; one of its columns has a {@link RowLink}
 */
export function Rows<Row extends RaRecord>({
  short: { primary, secondary, tertiary },
  isOpened = false,
  children,
}: {
  readonly short: ShortRow<Row>;
  readonly isOpened?: boolean;
  readonly children: ReactNode;
}) {
  const isPhone = useIsPhone();
  const { error } = useListContext<Row>();
  const rowClick = isOpened ? "show" : false;
  if (error) return <Alert severity="error">{wordsFor(error)}</Alert>;
  if (isPhone) {
    return (
      <SimpleList<Row>
        primaryText={primary}
        secondaryText={secondary}
        {...(tertiary ? { tertiaryText: tertiary } : {})}
        rowClick={rowClick}
        empty={<Nothing />}
      />
    );
  }
  return (
    <DataTable bulkActionButtons={false} rowClick={rowClick} size="small" empty={<Nothing />}>
      {children}
    </DataTable>
  );
}

/** Leads to a row's page, for those who use the keyboard: a click anywhere on the row does too. */
export function RowLink({ id, children }: { readonly id: number; readonly children: ReactNode }) {
  const resource = useResourceContext();
  const createPath = useCreatePath();
  return (
    <Link
      to={createPath({ resource: resource ?? "", id, type: "show" })}
      onClick={(event: MouseEvent) => event.stopPropagation()}
    >
      {children}
    </Link>
  );
}

function Nothing() {
  return (
    <Typography sx={{ p: 2, color: "text.secondary" }}>
      Nothing here, or nothing that fits the filters.
    </Typography>
  );
}
