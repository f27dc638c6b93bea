import { Chip } from "@mui/material";

type Color = "success" | "warning" | "error" | "default";

const COLORS: Readonly<Record<string, Color>> = {
  active: "success",
  applied: "success",
  accepted: "success",
  intact: "success",
  verified: "success",
  read_only: "warning",
  pending: "warning",
  running: "warning",
  waiting: "warning",
  suspended: "error",
  failed: "error",
  broken: "error",
  deactivated: "error",
};

/** A state of something, by its name and colour. */
export function StateChip({ state }: { readonly state: string }) {
  return (
    <Chip
      size="small"
      variant="outlined"
      color={COLORS[state] ?? "default"}
      label={state.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase())}
    />
  );
}
