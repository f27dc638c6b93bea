import { useSyncExternalStore } from "react";
import { Stored } from "./stored.ts";

/** An operator's stay in one tenant. */
export interface SupportSession {
  readonly tenantId: number;
  readonly tenantName: string;
  readonly subdomain: string;
  readonly reason: string;
  readonly canWrite: boolean;
  readonly access: string;
  /** When the token ends, in ms since 1970, by this machine's clock. */
  readonly expiresAt: number;
}

export const supportSession = new Stored<SupportSession>("ouvira-support");

/** The tenant that the operator is in; undefined outside of all. */
export function useSupportSession(): SupportSession | undefined {
  return useSyncExternalStore(supportSession.subscribe, supportSession.get);
}

/** Whether changes of the tenant are offered. */
export function useCanWrite(): boolean {
  return useSupportSession()?.canWrite === true;
}
