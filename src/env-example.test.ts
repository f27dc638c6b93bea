import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseEnv } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { readConfig } from "./config.ts";
import { VARIABLES } from "./config-environment.ts";
import { ROOT_DIR } from "./paths.ts";

/** A variable that is commented out: no space behind the `#`, as there is before a sentence. */
const COMMENTED_OUT = /^#(?=[A-Z][A-Z0-9_]*=)/gm;

const text = readFileSync(path.join(ROOT_DIR, ".env.example"), "utf8");
const uncommented = text.replace(COMMENTED_OUT, "");

describe(".env.example", () => {
  const startedIn = process.cwd();
  let folder: string;

  // Local secrets are written into DATA_DIR, which is seen from here.
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "ouvira-env-"));
    process.chdir(folder);
  });

  afterEach(() => {
    process.chdir(startedIn);
    rmSync(folder, { recursive: true });
  });

  test("names every variable that is read, once each, and no other", () => {
    const names = uncommented.match(/^[A-Z][A-Z0-9_]*(?==)/gm);

    expect(names?.toSorted()).toEqual([...VARIABLES].toSorted());
  });

  test("says in a sentence above each variable what it is for", () => {
    const lines = text.split("\n");
    const silent = lines.filter(
      (line, index) => /^#?[A-Z][A-Z0-9_]*=/.test(line) && !/^# .*\.$/.test(lines[index - 1] ?? ""),
    );

    expect(silent).toEqual([]);
  });

  test("sets nothing but APP_ENV as it is", () => {
    expect(parseEnv(text)).toEqual({ APP_ENV: "local" });
  });

  test("states the defaults: with every line uncommented the configuration is the same", () => {
    expect(readConfig(parseEnv(uncommented))).toEqual(readConfig({ APP_ENV: "local" }));
  });

  test("says each limit's default: given, it changes nothing", () => {
    const limits = [
      ...text.matchAll(
        /Default: (\S+);\s(?:# )?in\s(?:# )?production\s(?:# )?(\S+)\.\n#(RATE_LIMIT_\w+)=/g,
      ),
    ];
    const given = (index: number) =>
      Object.fromEntries(limits.map((limit) => [limit[3] ?? "", limit[index] ?? ""]));

    expect(Object.keys(given(1))).toEqual(
      VARIABLES.filter((name) => name.startsWith("RATE_LIMIT_")),
    );
    expect(readConfig({ APP_ENV: "local", ...given(1) })).toEqual(readConfig({ APP_ENV: "local" }));
    expect(readConfig({ ...PRODUCTION_SETTINGS, ...given(2) })).toEqual(
      readConfig(PRODUCTION_SETTINGS),
    );
  });
});
