import { Alert, Box, Button, LinearProgress, Typography } from "@mui/material";
import { useEffect, useRef, useState } from "react";
import { Title } from "react-admin";
import { wordsFor } from "../api/problem.ts";
import type { LogCheck } from "../api/records.ts";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { Panel } from "../shared/panel.tsx";
import { InTenant } from "../support/in-tenant.tsx";
import { type Checked, checkLogs, shareOf } from "./verification.ts";

const NAMES = { activity: "activity log", security: "security log" } as const;

type State =
  | { readonly name: "idle" }
  | { readonly name: "running"; readonly checked: Checked }
  | { readonly name: "done"; readonly checked: Checked }
  | { readonly name: "failed"; readonly words: string };

/** Whether the tenant's logs are what was written to them. */
export function VerificationPage() {
  useDocumentTitle("Check the logs");
  return (
    <InTenant>
      <Title title="Check the logs" />
      <Panel title="Check the logs">
        <Typography sx={{ mb: 2 }}>
          Every entry is sealed some seconds after it is written, each seal with the one before. The
          check computes all of them anew, and finds what was edited, removed or put in between.
        </Typography>
        <Check />
      </Panel>
    </InTenant>
  );
}

function Check() {
  const [state, setState] = useState<State>({ name: "idle" });
  const abort = useRef<AbortController>(undefined);
  useEffect(() => () => abort.current?.abort(), []);

  const start = async () => {
    abort.current?.abort();
    const controller = new AbortController();
    abort.current = controller;
    setState({ name: "running", checked: [] });
    try {
      const checked = await checkLogs(
        (soFar) => setState({ name: "running", checked: soFar }),
        controller.signal,
      );
      if (!controller.signal.aborted) setState({ name: "done", checked });
    } catch (error) {
      if (!controller.signal.aborted) setState({ name: "failed", words: wordsFor(error) });
    }
  };
  return (
    <>
      <Button variant="contained" loading={state.name === "running"} onClick={() => void start()}>
        Check now
      </Button>
      <Box sx={{ mt: 2 }} aria-live="polite">
        {state.name === "running" && <Progress checked={state.checked} />}
        {state.name === "failed" && <Alert severity="error">{state.words}</Alert>}
        {state.name === "done" && state.checked.map((log) => <Result key={log.log} log={log} />)}
      </Box>
    </>
  );
}

function Progress({ checked }: { readonly checked: Checked }) {
  const entries = checked.reduce((sum, { checked_entries: count }) => sum + count, 0);
  const share =
    checked.length === 0 ? 0 : checked.reduce((sum, log) => sum + shareOf(log), 0) / checked.length;
  return (
    <>
      <Typography>{entries} entries checked so far…</Typography>
      <LinearProgress variant="determinate" value={share * 100} aria-label="Checked so far" />
    </>
  );
}

function Result({ log }: { readonly log: LogCheck }) {
  const name = NAMES[log.log];
  const waiting =
    log.unsealed_entries > 0
      ? ` ${log.unsealed_entries} were written a moment ago and are not sealed yet.`
      : "";
  if (log.findings.length === 0) {
    return (
      <Alert severity="success" sx={{ mb: 1 }}>
        The {name} is intact: {log.checked_entries} entries are what was written.{waiting}
      </Alert>
    );
  }
  return (
    <Alert severity="error" sx={{ mb: 1 }}>
      The {name} is not what was written. Keep a copy of the database before anything else is done.
      <ul>
        {log.findings.map((finding) => (
          <li key={`${finding.seal} ${finding.entry_id} ${finding.kind}`}>{finding.detail}</li>
        ))}
      </ul>
    </Alert>
  );
}
