import type { Message } from "./messages.ts";

/** Hands messages to whoever delivers them. */
export interface Transport {
  /**
   * Resolves when the provider has taken the message.
   *
   * @throws PermanentDeliveryError when it never will; DeliveryError when it may another time
   */
  send(message: Message, delivery: Delivery): Promise<void>;
  /** Lets go of connections that are kept open. */
  close?(): Promise<void> | void;
}

/** One try to deliver a message. */
export interface Delivery {
  /** The same each time the message is tried and of no other message: what a receiver knows it by. */
  readonly id: string;
  /** Aborted when the try has taken too long. */
  readonly signal: AbortSignal;
}

/**
 * A message that was not taken. What it says goes to the log: neither the address, nor the text, nor
 * the provider's own words, which may quote both.
 */
export class DeliveryError extends Error {
  override readonly name: string = "DeliveryError";
}

/** A refusal that will be the same each time: the address is not one, or wants nothing from us. */
export class PermanentDeliveryError extends DeliveryError {
  override readonly name = "PermanentDeliveryError";
}
