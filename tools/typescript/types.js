// Prints TypeScript types of the schemas of the document on its standard input: OpenAPI or AsyncAPI.
// Of AsyncAPI's channels also unions of all that is sent or received there: ChatSends, ChatReceives.

import { text } from "node:stream/consumers";
import { compile } from "json-schema-to-typescript";

const document = JSON.parse(
  (await text(process.stdin)).replaceAll("#/components/schemas/", "#/definitions/"),
);

const words = (name) => name.split(/[^A-Za-z0-9]+/);
const pascal = (name) => words(name).map((word) => word[0].toUpperCase() + word.slice(1)).join("");
const nameIn = (reference) => reference.split("/").at(-1);

const unions = Object.entries(document.operations ?? {}).map(([name, { messages }]) => [
  `${pascal(name)}s`,
  { oneOf: messages.map(({ $ref }) => document.components.messages[nameIn($ref)].payload) },
]);

const schema = {
  title: "Unused",
  type: "object",
  definitions: { ...document.components.schemas, ...Object.fromEntries(unions) },
};
const types = await compile(schema, "Unused", {
  additionalProperties: false,
  bannerComment: `// Types of ${document.info.title} ${document.info.version}, made by \`just contracts\`.`,
  unreachableDefinitions: true,
});
// What the compiler adds to every comment, and the type of the schema around all of them.
const added =
  /(\n \*)?\n \* This interface was referenced by `Unused`'s JSON-Schema\n \* via the `definition` "\w+"\./g;
console.log(
  types
    .replace(added, "")
    .replaceAll("/**\n */\n", "")
    .replace("export interface Unused {}\n", "")
    .trim(),
);
