import { Button } from "@mui/material";
import { useState } from "react";
import { Confirm } from "react-admin";
import { useAction } from "./use-action.ts";

/** A button that changes a row of a tenant, once it was said what happens and confirmed. */
export function RowButton({
  label,
  question,
  consequence,
  done,
  work,
  isDangerous = false,
}: {
  readonly label: string;
  readonly question: string;
  readonly consequence: string;
  readonly done: string;
  readonly work: () => Promise<unknown>;
  readonly isDangerous?: boolean;
}) {
  const [isAsking, setIsAsking] = useState(false);
  const { isRunning, run } = useAction();
  const confirm = async () => {
    await run(work, done);
    setIsAsking(false);
  };
  return (
    // A click here is none on the row, nor is one beside the dialog.
    <span onClick={(event) => event.stopPropagation()} role="presentation">
      <Button
        size="small"
        color={isDangerous ? "error" : "primary"}
        onClick={() => setIsAsking(true)}
      >
        {label}
      </Button>
      <Confirm
        isOpen={isAsking}
        title={question}
        content={consequence}
        confirm={label}
        confirmColor={isDangerous ? "warning" : "primary"}
        loading={isRunning}
        onConfirm={() => void confirm()}
        onClose={() => setIsAsking(false)}
      />
    </span>
  );
}
