import { DateInput, NumberInput, TextInput } from "react-admin";

/** What both logs can be asked for. Days are UTC's, as the logs have them. */
export const LOG_FILTERS = [
  <TextInput key="action" source="action" label="Action" alwaysOn resettable />,
  <NumberInput key="user" source="user" label="User id" alwaysOn min={1} />,
  <DateInput key="from" source="from" label="From (UTC)" alwaysOn />,
  <DateInput key="to" source="to" label="To (UTC)" alwaysOn />,
];
