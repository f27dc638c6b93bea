import { useEffect } from "react";

/** Names the page in the browser's tab and history. */
export function useDocumentTitle(text: string | undefined): void {
  useEffect(() => {
    document.title = text === undefined ? "Ouvira console" : `${text} – Ouvira console`;
  }, [text]);
}
