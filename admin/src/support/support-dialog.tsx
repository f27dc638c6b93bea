import {
  Alert,
  Button,
  Checkbox,
  Dialog,
  DialogActions,
  DialogContent,
  DialogContentText,
  DialogTitle,
  FormControlLabel,
  TextField,
} from "@mui/material";
import { type FormEvent, useState } from "react";
import { wordsFor } from "../api/problem.ts";
import type { Tenant } from "../api/records.ts";
import { useSupport } from "./use-support.ts";

/** Characters of a reason that the API takes. */
const REASON_LENGTH_MAX = 500;

/** Asks why an operator steps into a tenant, and whether to change anything there. */
export function SupportDialog({
  tenant,
  onClose,
}: {
  readonly tenant: Tenant;
  readonly onClose: () => void;
}) {
  const [reason, setReason] = useState("");
  const [canWrite, setCanWrite] = useState(false);
  const [refusal, setRefusal] = useState<string>();
  const [isSending, setIsSending] = useState(false);
  const { enter } = useSupport();

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setRefusal(undefined);
    setIsSending(true);
    try {
      const { id, name, subdomain } = tenant;
      await enter({ tenantId: id, tenantName: name, subdomain, reason: reason.trim(), canWrite });
    } catch (error) {
      setRefusal(wordsFor(error));
      setIsSending(false);
    }
  };
  return (
    <Dialog open onClose={onClose} fullWidth maxWidth="sm" aria-labelledby="support-title">
      <form onSubmit={(event) => void submit(event)}>
        <DialogTitle id="support-title">Step into {tenant.name}</DialogTitle>
        <DialogContent>
          <DialogContentText sx={{ mb: 2 }}>
            For 15 minutes you see what an admin of this tenant sees. Its security log tells them
            who you are and why.
          </DialogContentText>
          <TextField
            label="Reason"
            placeholder="Ticket 4711: the invitation does not arrive"
            autoFocus
            required
            fullWidth
            value={reason}
            onChange={(event) => setReason(event.target.value)}
            slotProps={{ htmlInput: { maxLength: REASON_LENGTH_MAX } }}
          />
          <FormControlLabel
            control={
              <Checkbox
                checked={canWrite}
                onChange={(event) => setCanWrite(event.target.checked)}
              />
            }
            label="Change things too, not only read"
          />
          {refusal !== undefined && <Alert severity="error">{refusal}</Alert>}
        </DialogContent>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button
            type="submit"
            variant="contained"
            loading={isSending}
            disabled={reason.trim() === ""}
          >
            Step in
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
