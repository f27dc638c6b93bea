import { Box, Card, CardContent, Typography } from "@mui/material";
import type { ReactNode } from "react";

/** A part of a page, under a heading, with what can be done there. */
export function Panel({
  title,
  actions,
  children,
}: {
  readonly title: string;
  readonly actions?: ReactNode;
  readonly children: ReactNode;
}) {
  return (
    <Card component="section" aria-label={title} sx={{ mt: 1, mb: 2 }}>
      <CardContent>
        <Box sx={{ display: "flex", flexWrap: "wrap", gap: 1, alignItems: "center", mb: 1.5 }}>
          <Typography variant="h6" component="h2" sx={{ flexGrow: 1 }}>
            {title}
          </Typography>
          {actions}
        </Box>
        {children}
      </CardContent>
    </Card>
  );
}
