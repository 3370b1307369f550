// Types of Hubbub 1.0.0, made by `just contracts`.

export type PostCommentedData = PostCommented & {
  event: "post_commented";
  id: string;
};
export type PostCommentedEnvelope = SentEnvelope & {
  type: "post_commented";
  data: PostCommented;
};
export type PostCreatedData = PostCreated & {
  event: "post_created";
  id: string;
};
export type PostCreatedEnvelope = SentEnvelope & {
  type: "post_created";
  data: PostCreated;
};
export type PostDeletedData = PostDeleted & {
  event: "post_deleted";
  id: string;
};
export type PostDeletedEnvelope = SentEnvelope & {
  type: "post_deleted";
  data: PostDeleted;
};
export type PostEditedData = PostEdited & {
  event: "post_edited";
  id: string;
};
export type PostEditedEnvelope = SentEnvelope & {
  type: "post_edited";
  data: PostEdited;
};
export type PostLikedData = PostLiked & {
  event: "post_liked";
  id: string;
};
export type PostLikedEnvelope = SentEnvelope & {
  type: "post_liked";
  data: PostLiked;
};
export type PostUnlikedData = PostUnliked & {
  event: "post_unliked";
  id: string;
};
export type PostUnlikedEnvelope = SentEnvelope & {
  type: "post_unliked";
  data: PostUnliked;
};
export type ChatSends =
  | Welcome
  | UserJoined
  | UserLeft
  | UserCount
  | Users
  | Message
  | ServicePublication
  | Notification
  | Ack
  | Pong
  | Reset
  | Error;
export type ChatReceives = PublishMessage | Ping | Authenticate;
export type NotificationsSends = Greeting | ServicePublication | Notification | Ack | Pong | Reset | Error;
export type NotificationsReceives = PublishMessage | Ping | Authenticate;
export type RoomReceives = Said;
export type EventsReceives = Envelope;
export type PublicationsReceives = PublicationValues;
export type PostsEventsSends =
  | PostCreatedEnvelope
  | PostEditedEnvelope
  | PostDeletedEnvelope
  | PostLikedEnvelope
  | PostUnlikedEnvelope
  | PostCommentedEnvelope;
export type PostSends =
  PostCreatedData | PostEditedData | PostDeletedData | PostLikedData | PostUnlikedData | PostCommentedData;
export type FeedSends =
  PostCreatedData | PostEditedData | PostDeletedData | PostLikedData | PostUnlikedData | PostCommentedData;
export type PostsNotificationsSends = PostLikedData | PostCommentedData;

/**
 * The message with this ``id`` is stored.
 */
export interface Ack {
  type: "ack";
  id: string;
  offset: number;
}
/**
 * Show a token: as the first message, or later to prolong the connection.
 */
export interface Authenticate {
  type: "auth";
  id?: string | null;
  token: string;
}
/**
 * An event as it crosses the bus, on ``events.<service>.<type>``.
 *
 * ``data`` is absolute ("12 likes", never "one more"), so hearing it twice is harmless.
 * Each recipient's personal channel and each channel gets one publication of it.
 */
export interface Envelope {
  v?: 1;
  id?: string;
  type: string;
  version?: number;
  time?: string;
  traceparent?: string | null;
  recipients?: (number | string)[];
  channels?: string[];
  data: {
    [k: string]: unknown;
  };
}
/**
 * A command failed; the connection lives.
 */
export interface Error {
  type: "error";
  code: string;
  message: string;
  id?: string;
}
/**
 * An event, with its own fields beside these.
 */
export interface EventData {
  event: string;
  id: string;
  [k: string]: unknown;
}
/**
 * The first message of a connection at `/ws/notifications`, which has no room.
 */
export interface Greeting {
  type: "welcome";
  user_id: number | string;
  name: string;
  offset: number;
  epoch: string;
}
/**
 * What somebody said in the room.
 */
export interface Message {
  type: "message";
  user_id: number | string;
  name: string;
  body: string;
  offset: number;
  time: string;
}
/**
 * An event for the user, with its own fields beside these.
 */
export interface Notification {
  type: "notification";
  event: string;
  offset: number;
  time: string;
  [k: string]: unknown;
}
/**
 * A user as others see them.
 */
export interface Person {
  user_id: number | string;
  name: string;
}
/**
 * Ask for a `pong`.
 */
export interface Ping {
  type: "ping";
}
/**
 * Where the stream stands for this connection: a fresh ``since``.
 */
export interface Pong {
  type: "pong";
  offset: number;
}
/**
 * Somebody wrote a comment; the post's author is notified.
 */
export interface PostCommented {
  post_id: number;
  post_title: string;
  comment_id: number;
  commented_by: string;
  comment_count: number;
}
/**
 * An event as it crosses the bus, on ``events.<service>.<type>``.
 *
 * ``data`` is absolute ("12 likes", never "one more"), so hearing it twice is harmless.
 * Each recipient's personal channel and each channel gets one publication of it.
 */
export interface SentEnvelope {
  v: 1;
  id: string;
  type: string;
  version: number;
  time: string;
  traceparent: string | null;
  recipients: (number | string)[];
  channels: string[];
  data: {
    [k: string]: unknown;
  };
}
/**
 * A post was written.
 */
export interface PostCreated {
  post_id: number;
  title: string;
  author_id: number | string;
  author_name: string;
}
/**
 * A post is gone, with its likes and comments.
 */
export interface PostDeleted {
  post_id: number;
}
/**
 * A post has another title, or another text.
 */
export interface PostEdited {
  post_id: number;
  title: string;
}
/**
 * Somebody likes a post; its author is notified.
 */
export interface PostLiked {
  post_id: number;
  post_title: string;
  liked_by: string;
  like_count: number;
}
/**
 * Somebody likes a post no more.
 */
export interface PostUnliked {
  post_id: number;
  like_count: number;
}
/**
 * What is stored of a publication.
 */
export interface PublicationValues {
  data: unknown;
  sender?: SenderValues;
  event_id?: string;
  tags?: {
    [k: string]: string;
  };
  delta?: boolean;
}
/**
 * Who published from a connection.
 */
export interface SenderValues {
  user_id: number | string;
  name: string;
  client?: string;
  conn_info?: unknown;
  chan_info?: unknown;
}
/**
 * Say something in the room; with an ``id`` it is acknowledged, and stored once.
 */
export interface PublishMessage {
  type: "message";
  id?: string | null;
  body: string;
}
/**
 * There is a hole here: what was missed can't be replayed.
 */
export interface Reset {
  type: "reset";
  reason: string;
}
/**
 * What somebody said in a room, at `/ws/chat` or by an SDK.
 */
export interface Said {
  body: string;
}
/**
 * What a service published, into the room or, with ``channel``, into the personal channel.
 */
export interface ServicePublication {
  type: "publication";
  channel?: string;
  data: unknown;
  offset: number;
  time: string;
}
/**
 * In a crowd, instead of joined and left.
 */
export interface UserCount {
  type: "user_count";
  count: number;
}
/**
 * A user came into the room, with a first tab.
 */
export interface UserJoined {
  type: "user_joined";
  user_id: number | string;
  name: string;
  count: number;
}
/**
 * A user left the room, with the last tab.
 */
export interface UserLeft {
  type: "user_left";
  user_id: number | string;
  name: string;
  count: number;
}
/**
 * The names anew, when a crowd has shrunk or a connection was behind.
 */
export interface Users {
  type: "users";
  users: Person[];
  count: number;
}
/**
 * The first message of a connection that was let in.
 */
export interface Welcome {
  type: "welcome";
  user_id: number | string;
  name: string;
  room: string;
  count: number;
  users: Person[];
  offset: number;
  epoch: string;
}
