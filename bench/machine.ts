import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import postgres from "postgres";

/** Linux counts CPU time in hundredths of a second, whatever the kernel's own clock. */
const MS_PER_TICK = 10;

/** What a run was made on, in one line: figures of two machines do not compare. */
export async function describeMachine(adminUrl: string): Promise<string> {
  const admin = postgres(adminUrl, { max: 1, fetch_types: false });
  try {
    const [server] = await admin<{ version: string; buffers: string }[]>`
      select current_setting('server_version') as version, current_setting('shared_buffers') as buffers`;
    const manifest = new URL("../package.json", import.meta.resolve("postgres"));
    const driver: { readonly version: string } = JSON.parse(readFileSync(manifest, "utf8"));
    const cores = cpus();
    return [
      `${cores.length} cores (${cores[0]?.model.trim() ?? "unknown"})`,
      `${Math.round(totalmem() / 2 ** 30)} GB`,
      `Node ${process.version}`,
      `PostgreSQL ${server?.version} (shared_buffers ${server?.buffers})`,
      `postgres.js ${driver.version}`,
    ].join(", ");
  } finally {
    await admin.end();
  }
}

/** Memory of one server process in MB; undefined where there is no /proc, or no such process. */
export interface ProcessMemory {
  /** Its own: RssAnon, which neither other backends nor the file cache share. */
  readonly own: number;
  /** All that is resident, the touched part of shared_buffers and the program's pages included. */
  readonly resident: number;
}

export function memoryOf(pid: number | undefined): ProcessMemory | undefined {
  if (pid === undefined) return undefined;
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return undefined;
  }
  const megabytes = (field: string) =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1024;
  return { own: megabytes("RssAnon"), resident: megabytes("VmRSS") };
}

/** CPU time that server processes have taken so far, in milliseconds; those that are gone count nothing. */
export function cpuOf(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      // The name may hold blanks: what follows its bracket is split. Fields 14 and 15 of proc(5).
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended.
    }
  }
  return ticks * MS_PER_TICK;
}
