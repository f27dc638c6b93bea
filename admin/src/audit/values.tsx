import { Box } from "@mui/material";

/** Values of an entry, by name; where they changed, before and after. */
export function ChangedValues({
  before = {},
  after,
}: {
  readonly before?: Readonly<Record<string, unknown>>;
  readonly after: Readonly<Record<string, unknown>>;
}) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  if (names.length === 0) return <>No further details.</>;
  return (
    <Box
      component="table"
      sx={{ borderSpacing: "12px 2px", "& td": { overflowWrap: "anywhere", verticalAlign: "top" } }}
    >
      <tbody>
        {names.map((name) => (
          <tr key={name}>
            <Box component="td" sx={{ color: "text.secondary", whiteSpace: "nowrap" }}>
              {name}
            </Box>
            <td>
              {name in before && <del>{textOf(before[name])}</del>} {textOf(after[name])}
            </td>
          </tr>
        ))}
      </tbody>
    </Box>
  );
}

function textOf(value: unknown): string {
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
