import { type Theme, useMediaQuery } from "@mui/material";

/** Whether there is no room for tables. */
export function useIsPhone(): boolean {
  return useMediaQuery((theme: Theme) => theme.breakpoints.down("sm"));
}
