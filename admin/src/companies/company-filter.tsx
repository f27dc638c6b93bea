import { ReferenceInput, SelectInput } from "react-admin";
import { PAGE_SIZE_MAX } from "../api/data-provider.ts";

/** Narrows a list of a tenant to what belongs to one company. */
export const COMPANY_FILTER = (
  <ReferenceInput
    key="company"
    source="company"
    reference="companies"
    alwaysOn
    perPage={PAGE_SIZE_MAX}
  >
    <SelectInput label="Company" optionText="name" emptyText="Any" />
  </ReferenceInput>
);
