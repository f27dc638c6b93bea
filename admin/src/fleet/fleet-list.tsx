import { Alert, LinearProgress, Typography } from "@mui/material";
import { DataTable, List, SelectInput, useGetList } from "react-admin";
import type { LedgerEntry } from "../api/records.ts";
import { Moment } from "../shared/moments.tsx";
import { Panel } from "../shared/panel.tsx";
import { Rows } from "../shared/rows.tsx";
import { StateChip } from "../shared/state-chip.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";

/** How often it is looked how far a migration is, while tenants are behind. */
const WATCH_MS = 3_000;

const STATES = [
  { id: "applied", name: "Applied" },
  { id: "pending", name: "Pending" },
  { id: "running", name: "Running" },
  { id: "failed", name: "Failed" },
];
const FILTERS = [
  <SelectInput
    key="state"
    source="state"
    label="State"
    alwaysOn
    choices={STATES}
    emptyText="Any"
  />,
];

const Column = DataTable.Col<LedgerEntry>;

/** What the API says of the fleet beside a page of its ledger. */
interface FleetMeta {
  readonly release: string;
  readonly behind: number;
}

/** How many tenants are of this release: all of it in one line, and a bar. */
function FleetProgress() {
  const { total = 0, meta } = useGetList<LedgerEntry>(
    "migrations",
    { pagination: { page: 1, perPage: 1 } },
    { refetchInterval: ({ state }) => (isBehind(state.data?.meta) ? WATCH_MS : false) },
  );
  // The rest of the answer, as the data provider hands it on.
  const fleet = meta as FleetMeta | undefined;
  if (!fleet) return null;
  const done = total - fleet.behind;
  return (
    <Panel title="Fleet">
      <Typography>
        Release <code>{fleet.release}</code>
      </Typography>
      <Typography sx={{ my: 1 }}>
        {done} of {total} schemas are of this release
        {fleet.behind === 0 ? "." : `, ${fleet.behind} behind.`}
      </Typography>
      <LinearProgress
        variant="determinate"
        aria-label="Tenants of this release"
        value={total === 0 ? 100 : (done / total) * 100}
        color={fleet.behind === 0 ? "success" : "warning"}
      />
      {fleet.behind > 0 && (
        <Alert severity="info" sx={{ mt: 1.5 }}>
          <code>npm run migrate</code> brings them up to date; this page follows it.
        </Alert>
      )}
    </Panel>
  );
}

function isBehind(meta: unknown): boolean {
  return ((meta as FleetMeta | undefined)?.behind ?? 0) > 0;
}

/** The ledger of migrations, failures first. */
export function FleetList() {
  useDocumentTitle("Fleet");
  return (
    <>
      <FleetProgress />
      <List
        title="Fleet"
        filters={FILTERS}
        perPage={25}
        exporter={false}
        empty={false}
        actions={false}
        queryOptions={{
          refetchInterval: ({ state }) => (isBehind(state.data?.meta) ? WATCH_MS : false),
        }}
      >
        <Rows<LedgerEntry>
          short={{
            primary: ({ subdomain }) => subdomain,
            secondary: ({ last_error: error, version }) => error ?? version,
            tertiary: ({ state }) => <StateChip state={state} />,
          }}
        >
          <Column source="id" label="Tenant" disableSort />
          <Column source="subdomain" label="Subdomain" disableSort />
          <Column
            source="state"
            label="State"
            disableSort
            render={({ state }) => <StateChip state={state} />}
          />
          <Column source="version" label="Version" disableSort />
          <Column source="attempts" label="Attempts" disableSort />
          <Column
            source="duration_ms"
            label="Took"
            disableSort
            render={({ duration_ms: ms }) => `${ms} ms`}
          />
          <Column
            source="updated_at"
            label="When"
            disableSort
            render={({ updated_at: at }) => <Moment at={at} />}
          />
          <Column source="last_error" label="Last error" disableSort />
        </Rows>
      </List>
    </>
  );
}
