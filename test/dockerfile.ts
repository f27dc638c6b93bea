import { readFileSync } from "node:fs";
import path from "node:path";
import { ROOT_DIR } from "../src/paths.ts";

/** One instruction of a Dockerfile: `RUN`, and what stands behind it. */
export interface Instruction {
  readonly name: string;
  readonly text: string;
}

export interface Stage {
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

/** The stages of the project's Dockerfile, as https://docs.docker.com/reference/dockerfile/ reads it. */
export function readDockerfile(): Stage[] {
  const lines = readFileSync(path.join(ROOT_DIR, "Dockerfile"), "utf8")
    .replace(/^\s*#.*\n/gm, "")
    .replace(/\\\n\s*/g, " ")
    .split("\n")
    .filter((line) => line.trim() !== "");
  const stages: { name: string | undefined; instructions: Instruction[] }[] = [];
  for (const line of lines) {
    const [, name = "", text = ""] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (name === "FROM") {
      stages.push({ name: / AS (\S+)$/.exec(text)?.[1], instructions: [] });
    } else {
      stages.at(-1)?.instructions.push({ name, text });
    }
  }
  return stages;
}
