import { DateInput, NumberInput, TextInput } from "react-admin";

/** What both logs can be asked for. Days are UTC's, as the logs have them. */
export const LOG_FILTERS = [
  <TextInput key="action" source="action" label="Action" alwaysOn sx={{ width: 190 }} />,
  <NumberInput key="user" source="user" label="User id" alwaysOn min={1} sx={{ width: 100 }} />,
  <DateInput key="from" source="from" label="From (UTC)" alwaysOn sx={{ width: 150 }} />,
  <DateInput key="to" source="to" label="To (UTC)" alwaysOn sx={{ width: 150 }} />,
];
