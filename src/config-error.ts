/** What is wrong with the environment, one sentence a finding. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly findings: readonly string[];

  constructor(findings: readonly string[]) {
    super(`The configuration cannot be used:\n${findings.map((line) => `  - ${line}`).join("\n")}`);
    this.findings = findings;
  }
}
