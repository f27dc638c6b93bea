import { Alert } from "@mui/material";
import { useState } from "react";
import { Title } from "react-admin";
import { operatorSession } from "../api/operator-session.ts";
import { Panel } from "../shared/panel.tsx";
import { useDocumentTitle } from "../shared/use-document-title.ts";
import { Enrolment } from "./enrolment.tsx";

/** Where an operator turns the second factor on when nothing makes them. */
export function SecondFactorPage() {
  useDocumentTitle("Second factor");
  const [isOn, setIsOn] = useState(operatorSession.get()?.hasSecondFactor === true);
  return (
    <>
      <Title title="Second factor" />
      <Panel title="Second factor">
        {isOn ? (
          <Alert severity="success">
            It is on: every login asks for a code. Whoever has lost the app asks for{" "}
            <code>npm run create-operator -- --reset</code>.
          </Alert>
        ) : (
          <div style={{ maxWidth: 400 }}>
            <Enrolment onDone={() => setIsOn(true)} />
          </div>
        )}
      </Panel>
    </>
  );
}
