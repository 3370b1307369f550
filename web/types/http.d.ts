// Types of Hubbub 1.0.0, made by `just contracts`.

export interface BatchAnswer {
  replies: {
    [k: string]: unknown;
  }[];
}
export interface BatchRequest {
  commands: {
    [k: string]: unknown;
  }[];
  parallel?: boolean;
}
export interface BroadcastRequest {
  data?: unknown;
  b64data?: string;
  idempotency_key?: string;
  tags?: {
    [k: string]: string;
  } | null;
  delta?: boolean;
  skip_history?: boolean;
  version?: number;
  /**
   * @minItems 1
   */
  channels: [string, ...string[]];
}
export interface BroadcastResult {
  responses: (PublishAnswer | ErrorAnswer)[];
}
export interface PublishAnswer {
  result: PublishResult;
}
/**
 * Empty if nothing was stored.
 */
export interface PublishResult {
  offset?: number;
  epoch?: string;
}
/**
 * Of a command that failed.
 */
export interface ErrorAnswer {
  error: ErrorBody;
}
/**
 * Why a command failed.
 */
export interface ErrorBody {
  code: number;
  message: string;
}
export interface ChannelInfo {
  num_clients: number;
}
export interface ChannelRequest {
  channel: string;
}
export interface ChannelsRequest {
  pattern?: string;
}
export interface ChannelsResult {
  channels: {
    [k: string]: ChannelInfo;
  };
}
/**
 * A comment on a post.
 */
export interface Comment {
  id: number;
  post_id: number;
  body: string;
  author_id: number | string;
  author_name: string;
  created_at: string;
}
/**
 * A connection as others see it.
 */
export interface ConnectionInfo {
  user: string;
  client: string;
  conn_info?: unknown;
  chan_info?: unknown;
}
export interface DisconnectRequest {
  user: string;
  client?: string;
  session?: string;
  whitelist?: string[];
  disconnect?: How;
  code?: number;
  reason?: string;
}
/**
 * How a connection is ended.
 */
export interface How {
  code?: number;
  reason?: string;
}
/**
 * It was done, and there is nothing more to say.
 */
export interface Done {}
export interface Health {
  status: string;
}
export interface HistoryRequest {
  channel: string;
  limit?: number;
  since?: Position | null;
  reverse?: boolean;
}
export interface Position {
  offset?: number;
  epoch?: string;
}
export interface HistoryResult {
  publications: PublicationInfo[];
  epoch: string;
  offset: number;
}
/**
 * What was published in a channel.
 */
export interface PublicationInfo {
  data: unknown;
  info?: ConnectionInfo;
  offset?: number;
  tags?: {
    [k: string]: string;
  };
  delta?: boolean;
}
/**
 * How a connection is ended.
 */
export interface How1 {
  code?: number;
  reason?: string;
}
export interface InfoRequest {}
export interface InfoResult {
  nodes: NodeInfo[];
}
/**
 * A gateway.
 */
export interface NodeInfo {
  uid: string;
  name: string;
  version: string;
  num_clients: number;
  num_users: number;
  num_channels: number;
  num_subs: number;
  uptime: number;
}
/**
 * Public keys, RFC 7517.
 */
export interface JwkSet {
  keys: {
    [k: string]: string;
  }[];
}
/**
 * The answer to liking and unliking.
 */
export interface LikeState {
  liked: boolean;
  like_count: number;
}
/**
 * What does not fit, and where.
 */
export interface Misfit {
  where: string[];
  message: string;
}
/**
 * ``POST /posts/{id}/comments``.
 */
export interface NewComment {
  body: string;
}
/**
 * ``POST /posts``.
 */
export interface NewPost {
  title: string;
  body: string;
}
/**
 * ``POST /auth/register``.
 */
export interface NewUser {
  email: string;
  name: string;
  password: string;
}
export interface PageComment {
  items: Comment[];
  next_cursor: string | null;
}
export interface PagePost {
  items: Post[];
  next_cursor: string | null;
}
/**
 * A post as the asking user sees it.
 */
export interface Post {
  id: number;
  title: string;
  body: string;
  author_id: number | string;
  author_name: string;
  like_count: number;
  comment_count: number;
  liked: boolean;
  created_at: string;
}
/**
 * ``PATCH /posts/{id}``: what is left out stays as it is, and is empty here.
 */
export interface PostEdit {
  title?: string;
  body?: string;
}
export interface PresenceResult {
  presence: {
    [k: string]: ConnectionInfo;
  };
}
export interface PresenceStatsResult {
  num_clients: number;
  num_users: number;
}
/**
 * Why a request failed, RFC 9457.
 */
export interface ProblemDocument {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  request_id: string | null;
  errors?: Misfit[];
}
export interface PublishRequest {
  data?: unknown;
  b64data?: string;
  idempotency_key?: string;
  tags?: {
    [k: string]: string;
  } | null;
  delta?: boolean;
  skip_history?: boolean;
  version?: number;
  channel: string;
}
/**
 * ``POST /auth/token/refresh``.
 */
export interface Refresh {
  refresh_token: string;
}
export interface RefreshRequest {
  user: string;
  client?: string;
  session?: string;
  expired?: boolean;
  expire_at?: number;
  info?: unknown;
  b64info?: string;
}
export interface RpcRequest {
  method: string;
  params?: unknown;
}
/**
 * ``POST /auth/token``: the form of OAuth2's password grant.
 */
export interface SignIn {
  grant_type?: "password";
  username: string;
  password: string;
}
export interface SubscribeRequest {
  user: string;
  client?: string;
  session?: string;
  channel: string;
  info?: unknown;
  b64info?: string;
  data?: unknown;
  b64data?: string;
  expire_at?: number;
  recover_since?: Position | null;
  override?: {
    [k: string]: unknown;
  } | null;
}
/**
 * What signing in and refreshing answer.
 */
export interface TokenPair {
  access_token: string;
  token_type?: "bearer";
  expires_in: number;
  refresh_token: string;
}
export interface UnsubscribeRequest {
  user: string;
  client?: string;
  session?: string;
  channel: string;
}
/**
 * An account as its owner sees it.
 */
export interface User {
  id: number;
  email: string;
  name: string;
}
