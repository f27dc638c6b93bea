import { Button, Dialog, DialogContent, DialogTitle } from "@mui/material";
import { useState } from "react";
import { NumberInput, required, SimpleForm, TextInput, useNotify, useRefresh } from "react-admin";
import { ApiError, wordsFor } from "../api/problem.ts";
import type { Company, CompanySettings } from "../api/records.ts";
import { callTenant } from "../api/requests.ts";
import { useCanWrite } from "../api/support-session.ts";
import { Facts } from "../shared/facts.tsx";
import { Panel } from "../shared/panel.tsx";

/** The settings of a company, and changing them where that is allowed. */
export function CompanySettingsPanel({ company }: { readonly company: Company }) {
  const canWrite = useCanWrite();
  const [isChanging, setIsChanging] = useState(false);
  const { settings } = company;
  return (
    <Panel
      title="Settings"
      actions={canWrite && <Button onClick={() => setIsChanging(true)}>Change</Button>}
    >
      <Facts
        facts={[
          { label: "Language", value: settings.default_language },
          { label: "Currency", value: settings.default_currency },
          { label: "Time zone", value: settings.timezone },
          { label: "Fiscal year begins in month", value: settings.fiscal_year_start_month },
          { label: "Feature flags", value: <code>{JSON.stringify(settings.feature_flags)}</code> },
        ]}
      />
      {isChanging && <SettingsDialog company={company} onClose={() => setIsChanging(false)} />}
    </Panel>
  );
}

type Fields = Omit<CompanySettings, "feature_flags">;

function SettingsDialog({
  company: { id, name, settings },
  onClose,
}: {
  readonly company: Company;
  readonly onClose: () => void;
}) {
  const notify = useNotify();
  const refresh = useRefresh();
  const { feature_flags: _, ...fields } = settings;

  /** Gives what is wrong with which field, for the form to show. */
  const save = async (values: Partial<Fields>): Promise<object | undefined> => {
    try {
      await callTenant("PATCH", `company/${id}/settings/`, values);
    } catch (error) {
      notify(wordsFor(error), { type: "error" });
      // The body of a refusal, as ApiError makes it.
      return error instanceof ApiError ? (error.body as { errors?: object }).errors : undefined;
    }
    notify(`The settings of ${name} are changed.`, { type: "success" });
    refresh();
    onClose();
    return undefined;
  };
  return (
    <Dialog open onClose={onClose} fullWidth maxWidth="sm" aria-labelledby="settings-title">
      <DialogTitle id="settings-title">Settings of {name}</DialogTitle>
      <DialogContent sx={{ p: 0 }}>
        <SimpleForm record={fields} onSubmit={save} sanitizeEmptyValues={false}>
          <TextInput source="default_language" label="Language (BCP 47)" validate={required()} />
          <TextInput source="default_currency" label="Currency (ISO 4217)" validate={required()} />
          <TextInput source="timezone" label="Time zone (IANA)" validate={required()} />
          <NumberInput
            source="fiscal_year_start_month"
            label="Fiscal year begins in month"
            min={1}
            max={12}
            validate={required()}
          />
        </SimpleForm>
      </DialogContent>
    </Dialog>
  );
}
