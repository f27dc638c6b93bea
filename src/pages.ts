/** Some rows of a list, and how many there are on all its pages. */
export interface Page<Row> {
  readonly count: number;
  readonly results: Row[];
}
