/** What operators run besides the service: scripts that `npm run build` builds, for images without sources. */
export const OPERATOR_COMMANDS = [
  "check-deploy",
  "create-operator",
  "migrate",
  "shell",
  "tenant",
] as const;
