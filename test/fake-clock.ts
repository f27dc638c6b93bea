import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

/** libfaketime, as the program `faketime` loads it; undefined where that is not on the path. */
export const fakeTimeLibrary: string | undefined = findLibrary();

/** A clock of the test's own, which a process is started with and which then can be moved. */
export interface FakeClock {
  /** What a process is started with to go by this clock; its timers go on as ever. */
  readonly environment: Readonly<Record<string, string>>;
  /** Moves it this far from the true time, from now on: `+1h`, `-1d`, `+0`. */
  move(offset: string): Promise<void>;
  close(): Promise<void>;
}

/** https://github.com/wolfcw/libfaketime#readme */
export async function makeFakeClock(): Promise<FakeClock> {
  const folder = await mkdtemp(path.join(tmpdir(), "ouvira-clock-"));
  const file = path.join(folder, "offset");
  const move = (offset: string) => writeFile(file, `${offset}\n`);
  await move("+0");
  return {
    environment: {
      LD_PRELOAD: fakeTimeLibrary ?? "",
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: "1",
      // A clock that is set does not move the monotonic one, nor the times of files.
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      NO_FAKE_STAT: "1",
    },
    move,
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

function findLibrary(): string | undefined {
  try {
    const output = execFileSync("faketime", ["-m", "-f", "+0", "printenv", "LD_PRELOAD"]);
    return output.toString().trim();
  } catch {
    return undefined;
  }
}
