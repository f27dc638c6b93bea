import type { ReactElement, ReactNode } from "react";
import { DataTable, type RaRecord, SimpleList } from "react-admin";
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
 * @param props.isOpened whether a row leads to a page of its own
 * @param props.expand what a row can show below itself
 */
export function Rows<Row extends RaRecord>({
  short: { primary, secondary, tertiary },
  isOpened = false,
  expand,
  children,
}: {
  readonly short: ShortRow<Row>;
  readonly isOpened?: boolean;
  readonly expand?: ReactElement;
  readonly children: ReactNode;
}) {
  const isPhone = useIsPhone();
  const rowClick = isOpened ? "show" : false;
  if (isPhone && !expand) {
    return (
      <SimpleList<Row>
        primaryText={primary}
        secondaryText={secondary}
        {...(tertiary ? { tertiaryText: tertiary } : {})}
        rowClick={rowClick}
      />
    );
  }
  return (
    <DataTable
      bulkActionButtons={false}
      rowClick={rowClick}
      size="small"
      {...(expand ? { expand } : {})}
    >
      {isPhone ? (
        <DataTable.Col<Row>
          source="id"
          label={false}
          disableSort
          render={(row) => (
            <>
              <div>{primary(row)}</div>
              <div>{secondary(row)}</div>
            </>
          )}
        />
      ) : (
        children
      )}
    </DataTable>
  );
}
