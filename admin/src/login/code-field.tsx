import { TextField } from "@mui/material";

/** Digits of a code. */
const CODE_LENGTH = 6;

/** Where a code of an authenticator app is entered. */
export function CodeField({
  value,
  onChange,
}: {
  readonly value: string;
  readonly onChange: (code: string) => void;
}) {
  return (
    <TextField
      label="Code"
      autoComplete="one-time-code"
      autoFocus
      required
      fullWidth
      value={value}
      onChange={(event) => onChange(event.target.value.replaceAll(/\D/g, "").slice(0, CODE_LENGTH))}
      slotProps={{ htmlInput: { inputMode: "numeric", pattern: `\\d{${CODE_LENGTH}}` } }}
    />
  );
}
