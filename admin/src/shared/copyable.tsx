import ContentCopyIcon from "@mui/icons-material/ContentCopy";
import { Box, IconButton, Tooltip } from "@mui/material";
import { useState } from "react";

/** A text to be taken elsewhere, with a button that copies it. */
export function Copyable({ label, text }: { readonly label: string; readonly text: string }) {
  const [said, setSaid] = useState<string>();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      // Without https browsers have no clipboard.
      setSaid("Select the text and copy it");
    }
  };
  return (
    <Box sx={{ display: "flex", alignItems: "center", gap: 0.5, minWidth: 0 }}>
      <Box
        component="code"
        sx={{
          overflowWrap: "anywhere",
          bgcolor: "background.default",
          px: 0.75,
          py: 0.25,
          borderRadius: 1,
        }}
      >
        {text}
      </Box>
      <Tooltip title={said ?? `Copy ${label}`} onClose={() => setSaid(undefined)}>
        <IconButton size="small" aria-label={`Copy ${label}`} onClick={() => void copy()}>
          <ContentCopyIcon fontSize="inherit" />
        </IconButton>
      </Tooltip>
    </Box>
  );
}
