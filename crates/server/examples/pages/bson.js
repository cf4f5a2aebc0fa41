/*
 * As much of BSON (https://bsonspec.org, version 1.1) as JSON can say: documents, arrays, texts, numbers,
 * booleans and null. Fields that are undefined are left out.
 */
(function (global) {
  "use strict";

  const DOUBLE = 0x01;
  const TEXT = 0x02;
  const DOCUMENT = 0x03;
  const ARRAY = 0x04;
  const BOOLEAN = 0x08;
  const NULL = 0x0a;
  const INT32 = 0x10;
  const INT64 = 0x12;

  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { fatal: true });

  /* A document as bytes. */
  function serialize(document) {
    const bytes = [];
    writeDocument(bytes, Object.entries(document));
    return new Uint8Array(bytes);
  }

  function writeDocument(bytes, entries) {
    const start = bytes.length;
    writeInt32(bytes, 0);
    for (const [key, value] of entries) {
      if (value !== undefined) writeElement(bytes, key, value);
    }
    bytes.push(0);
    const length = [];
    writeInt32(length, bytes.length - start);
    bytes.splice(start, length.length, ...length);
  }

  function writeElement(bytes, key, value) {
    const begin = (type) => {
      if (key.includes("\0")) throw new TypeError("a key cannot have a NUL in it");
      bytes.push(type, ...encoder.encode(key), 0);
    };
    if (value === null) {
      begin(NULL);
    } else if (typeof value === "boolean") {
      begin(BOOLEAN);
      bytes.push(value ? 1 : 0);
    } else if (typeof value === "string") {
      begin(TEXT);
      const text = encoder.encode(value);
      writeInt32(bytes, text.length + 1);
      for (const byte of text) bytes.push(byte);
      bytes.push(0);
    } else if (typeof value === "number" && (value | 0) === value && !Object.is(value, -0)) {
      begin(INT32);
      writeInt32(bytes, value);
    } else if (typeof value === "number") {
      begin(DOUBLE);
      const view = new DataView(new ArrayBuffer(8));
      view.setFloat64(0, value, true);
      bytes.push(...new Uint8Array(view.buffer));
    } else if (typeof value === "object") {
      begin(Array.isArray(value) ? ARRAY : DOCUMENT);
      writeDocument(bytes, Object.entries(value));
    } else {
      throw new TypeError(`BSON has no ${typeof value}`);
    }
  }

  function writeInt32(bytes, number) {
    bytes.push(number & 0xff, (number >> 8) & 0xff, (number >> 16) & 0xff, (number >> 24) & 0xff);
  }

  /* The document in an array buffer. */
  function deserialize(buffer) {
    const reader = new Reader(buffer);
    const document = reader.document(Object.create(null));
    if (reader.at !== buffer.byteLength) throw new RangeError("there is more than a document");
    return document;
  }

  /* Reads on; past the end the view throws. */
  class Reader {
    at = 0;

    constructor(buffer) {
      this.buffer = buffer;
      this.view = new DataView(buffer);
    }

    document(into) {
      const end = this.at + this.int32();
      for (;;) {
        const type = this.byte();
        if (type === 0) break;
        const key = this.key();
        into[key] = this.value(type);
      }
      if (this.at !== end) throw new RangeError("a document is longer or shorter than it says");
      return into;
    }

    value(type) {
      switch (type) {
        case DOUBLE:
          return this.view.getFloat64(this.skip(8), true);
        case TEXT: {
          const length = this.int32() - 1;
          const text = decoder.decode(new Uint8Array(this.buffer, this.skip(length), length));
          this.skip(1);
          return text;
        }
        case DOCUMENT:
          return this.document(Object.create(null));
        case ARRAY:
          return this.document([]);
        case BOOLEAN:
          return this.byte() === 1;
        case NULL:
          return null;
        case INT32:
          return this.int32();
        case INT64:
          return Number(this.view.getBigInt64(this.skip(8), true));
        default:
          throw new TypeError(`type ${type} of BSON is not read here`);
      }
    }

    key() {
      const start = this.at;
      while (this.byte() !== 0);
      return decoder.decode(new Uint8Array(this.buffer, start, this.at - 1 - start));
    }

    byte() {
      return this.view.getUint8(this.skip(1));
    }

    int32() {
      return this.view.getInt32(this.skip(4), true);
    }

    skip(count) {
      const at = this.at;
      this.at += count;
      return at;
    }
  }

  global.bson = { serialize, deserialize };
})(globalThis);
