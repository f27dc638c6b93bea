import { Box, TextField, Typography } from "@mui/material";
import QRCode from "qrcode";
import { useState } from "react";
import { beginSecondFactor, confirmSecondFactor, type Enrolment as Begun } from "../api/login.ts";
import { Copyable } from "../shared/copyable.tsx";
import { CodeField } from "./code-field.tsx";
import { Step } from "./login-page.tsx";

/** Pixels of the QR code's side: large enough to be read from a laptop's screen. */
const QR_PIXELS = 220;

/**
 * Turns the second factor on: the password, the secret as a QR code and as text, the first code.
 *
 * @param props.password the one just entered; asked for when there is none
 */
export function Enrolment({
  password: entered = "",
  onDone,
}: {
  readonly password?: string;
  readonly onDone: () => void;
}) {
  const [password, setPassword] = useState(entered);
  const [begun, setBegun] = useState<Begun & { readonly image: string }>();
  const [code, setCode] = useState("");

  if (!begun) {
    const begin = async () => {
      const enrolment = await beginSecondFactor(password);
      // Made here: the secret goes nowhere else.
      const image = await QRCode.toDataURL(enrolment.qr_code, { width: QR_PIXELS, margin: 1 });
      setBegun({ ...enrolment, image });
    };
    return (
      <Step action="Show the QR code" onSubmit={begin}>
        <Typography>
          From now on a code of an authenticator app on your phone is asked for at every login.
        </Typography>
        {entered === "" && (
          <TextField
            label="Password"
            type="password"
            autoComplete="current-password"
            required
            fullWidth
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
        )}
      </Step>
    );
  }
  const confirm = async () => {
    await confirmSecondFactor(code);
    onDone();
  };
  return (
    <Step action="Turn it on" onSubmit={confirm}>
      <Typography>Scan this with the app, or enter the secret there. It is shown once.</Typography>
      <Box sx={{ textAlign: "center" }}>
        <img src={begun.image} width={QR_PIXELS} height={QR_PIXELS} alt="QR code of the secret" />
      </Box>
      <Copyable label="the secret" text={begun.secret} />
      <CodeField value={code} onChange={setCode} />
    </Step>
  );
}
