import { Alert, Box, Button, Card, CardContent, TextField, Typography } from "@mui/material";
import { type FormEvent, useState } from "react";
import { useLogin } from "react-admin";
import { type AfterPassword, finishLogIn, logIn } from "../api/login.ts";
import { wordsFor } from "../api/problem.ts";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { CodeField } from "./code-field.tsx";
import { Enrolment } from "./enrolment.tsx";

const WORDS: Readonly<Record<"password" | Exclude<AfterPassword["next"], "done">, string>> = {
  password: "Log in",
  code: "Enter the code of your authenticator app",
  enrolment: "Turn your second factor on",
};

/** E-mail and password; then the code, or turning the second factor on where it is compulsory. */
export function LoginPage() {
  useDocumentTitle("Log in");
  const [step, setStep] = useState<AfterPassword>();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const enter = useLogin();
  const next = step?.next ?? "password";

  const afterPassword = async () => {
    const after = await logIn(email.trim(), password);
    if (after.next === "done") await enter({});
    else setStep(after);
  };
  return (
    <Box
      component="main"
      sx={{
        minHeight: "100dvh",
        display: "flex",
        flexDirection: "column",
        alignItems: "center",
        pt: { xs: 4, sm: 12 },
        px: 2,
        bgcolor: "background.default",
      }}
    >
      <Typography component="p" sx={{ fontWeight: 600, mb: 2, color: "text.secondary" }}>
        Ouvira console
      </Typography>
      <Card sx={{ width: "100%", maxWidth: 400 }}>
        <CardContent sx={{ p: 3 }}>
          <Typography component="h1" variant="h6" sx={{ mb: 2 }}>
            {next === "done" ? "" : WORDS[next]}
          </Typography>
          {next === "password" && (
            <Step action="Log in" onSubmit={afterPassword}>
              <TextField
                label="E-mail"
                type="email"
                autoComplete="username"
                autoFocus
                required
                fullWidth
                value={email}
                onChange={(event) => setEmail(event.target.value)}
              />
              <TextField
                label="Password"
                type="password"
                autoComplete="current-password"
                required
                fullWidth
                value={password}
                onChange={(event) => setPassword(event.target.value)}
              />
            </Step>
          )}
          {step?.next === "code" && (
            <CodeStep
              onCode={async (code) => {
                await finishLogIn(email.trim(), step.challenge, code);
                await enter({});
              }}
              onBack={() => setStep(undefined)}
            />
          )}
          {next === "enrolment" && <Enrolment password={password} onDone={() => void enter({})} />}
        </CardContent>
      </Card>
    </Box>
  );
}

function CodeStep({
  onCode,
  onBack,
}: {
  readonly onCode: (code: string) => Promise<void>;
  readonly onBack: () => void;
}) {
  const [code, setCode] = useState("");
  return (
    <>
      <Step action="Go on" onSubmit={() => onCode(code)}>
        <CodeField value={code} onChange={setCode} />
      </Step>
      <Button fullWidth sx={{ mt: 1 }} onClick={onBack}>
        Log in as somebody else
      </Button>
    </>
  );
}

/** One form of a login, with what was refused above its button. */
export function Step({
  action,
  onSubmit,
  children,
}: {
  readonly action: string;
  readonly onSubmit: () => Promise<void>;
  readonly children: React.ReactNode;
}) {
  const [refusal, setRefusal] = useState<string>();
  const [isSending, setIsSending] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setRefusal(undefined);
    setIsSending(true);
    try {
      await onSubmit();
    } catch (error) {
      setRefusal(wordsFor(error));
    } finally {
      setIsSending(false);
    }
  };
  return (
    <Box
      component="form"
      onSubmit={(event) => void submit(event)}
      sx={{ display: "flex", flexDirection: "column", gap: 1.5 }}
    >
      {children}
      {refusal !== undefined && <Alert severity="error">{refusal}</Alert>}
      <Button type="submit" variant="contained" size="large" loading={isSending}>
        {action}
      </Button>
    </Box>
  );
}
