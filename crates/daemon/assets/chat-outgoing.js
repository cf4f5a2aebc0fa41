/**
 * @file A message of this page's person, from the moment it is sent until it stands in the timeline.
 *
 * The library sends it when there is a connection, and again until the server has taken it; the
 * server delivers it once. Here it is seen to wait, and what the person can do if it fails.
 */

import { drawMessage, element, readMessage, shorten } from "./chat-message.js";
import { ClosedError, QueueFullError, UnknownOutcomeError } from "./throng.js";

/**
 * Who sends it.
 *
 * @typedef {object} OutgoingOwner
 * @property {(data: object, options: PublishOptions) => Promise<Ack>} publish
 * @property {() => boolean} isOnline
 * @property {(outgoing: Outgoing, ack: Ack) => void} taken The server has it.
 * @property {(outgoing: Outgoing, why: string) => void} failed It is not under way any more.
 * @property {(outgoing: Outgoing) => void} removed The person does not want it any more.
 * @property {() => void} pressed The person has pressed a button that is gone now.
 */

/** A message on its way. `node` is what is put at the end of the timeline. */
export class Outgoing {
  node;
  /** What is drawn. */
  message;
  /** Whether the server may still take it without the person doing anything. */
  isPending = false;
  #data;
  #owner;
  #note = element("p", "note");
  /** What makes it one message however often it is sent; null while it was never in doubt. */
  #key = null;
  /** @type {boolean | null} What the note says of the connection; null if it says something else. */
  #isNotedOnline = null;
  /** @type {AbortController | null} Withdraws it. */
  #withdrawal = null;

  /**
   * @param {{ name: string, text: string }} data
   * @param {OutgoingOwner} owner
   */
  constructor(data, owner) {
    this.#data = data;
    this.#owner = owner;
    this.message = readMessage({ from: null, at: null, data }, true);
    this.node = drawMessage(this.message);
    this.node.classList.add("pending");
    this.node.querySelector(".stack").append(this.#note);
    this.#send();
  }

  /** Says what it waits for. To be called when the connection has come or gone. */
  drawNote() {
    const isOnline = this.#owner.isOnline();
    // A button that is drawn again would lose the focus.
    if (!this.isPending || isOnline === this.#isNotedOnline) return;
    this.#isNotedOnline = isOnline;
    if (isOnline) {
      this.#note.replaceChildren("Sending");
    } else {
      const withdraw = this.#button("Do not send", () => this.#withdrawal.abort());
      this.#note.replaceChildren("Waiting until you are back online.", withdraw);
    }
  }

  async #send() {
    this.#withdrawal = new AbortController();
    this.isPending = true;
    this.node.classList.remove("doubtful");
    this.drawNote();
    const { signal } = this.#withdrawal;
    const key = this.#key ?? undefined;
    try {
      const ack = await this.#owner.publish(this.#data, { signal, key });
      this.isPending = false;
      this.#owner.taken(this, ack);
    } catch (error) {
      this.isPending = false;
      if (error === signal.reason) this.#owner.removed(this);
      else this.#fail(error);
    }
  }

  #fail(error) {
    // With the same key it is one message, should it have arrived after all.
    if (error instanceof UnknownOutcomeError) this.#key = error.key;
    const why = describe(error);
    this.node.classList.add("doubtful");
    this.#isNotedOnline = null;
    this.#note.replaceChildren(
      why,
      this.#button("Send again", () => this.#send()),
      this.#button("Remove", () => this.#owner.removed(this)),
    );
    this.#owner.failed(this, why);
  }

  #button(text, pressed) {
    const button = element("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => {
      pressed();
      this.#owner.pressed();
    });
    return button;
  }
}

/** What a failure means to a person. */
function describe(error) {
  if (error instanceof UnknownOutcomeError) return "Not confirmed: it may have arrived.";
  if (error instanceof ClosedError) return "Not sent: there is no connection.";
  if (error instanceof QueueFullError) return "Not sent: too much is waiting.";
  return `Not sent: ${shorten(error.message, 300)}.`;
}
