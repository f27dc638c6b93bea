import { Alert, Box, Button } from "@mui/material";
import { operatorSession } from "../api/operator-session.ts";
import { useSupportSession } from "../api/support-session.ts";
import { useAction } from "../shared/use-action.ts";
import { useSecondsLeft } from "./use-seconds-left.ts";
import { useSupport } from "./use-support.ts";

/** From here on the time left is told in another colour. */
const SHORT_SECONDS = 120;

/** In which tenant an operator acts, why, and how long still. Nothing outside of a tenant. */
export function SupportBanner() {
  const support = useSupportSession();
  const left = useSecondsLeft(support?.expiresAt ?? 0);
  const { extend, leave } = useSupport();
  const { isRunning, run } = useAction();
  if (!support) return null;
  const isOver = left === 0;
  const operator = operatorSession.get()?.email ?? "";
  return (
    <Alert
      icon={false}
      role="region"
      aria-label="Support session"
      severity={isOver ? "error" : support.canWrite || left < SHORT_SECONDS ? "warning" : "info"}
      sx={{ my: 1, "& .MuiAlert-message": { width: "100%" } }}
    >
      <Box sx={{ display: "flex", flexWrap: "wrap", alignItems: "center", gap: 1 }}>
        <Box
          sx={{ flex: { xs: "1 1 100%", sm: "1 1 220px" }, minWidth: 0, overflowWrap: "anywhere" }}
        >
          <div>
            <strong>{support.tenantName}</strong> ({support.subdomain}) ·{" "}
            {support.canWrite ? "reading and changing" : "reading only"} ·{" "}
            {isOver ? (
              <strong>the time is over</strong>
            ) : (
              <>
                <strong role="timer">{clock(left)}</strong> left
              </>
            )}
          </div>
          <div>
            {operator} · “{support.reason}”
          </div>
        </Box>
        <Button
          size="small"
          loading={isRunning}
          onClick={() => void run(extend, "You have 15 minutes more.")}
        >
          Extend
        </Button>
        <Button
          size="small"
          variant="outlined"
          onClick={() => void run(leave, "You have left. What you could do there has ended.")}
        >
          Leave
        </Button>
      </Box>
    </Alert>
  );
}

const MINUTE_SECONDS = 60;

function clock(seconds: number): string {
  const rest = String(seconds % MINUTE_SECONDS).padStart(2, "0");
  return `${Math.floor(seconds / MINUTE_SECONDS)}:${rest}`;
}
