//! libchdb's C interface (`chdb.h` of 26.7.3), and nothing else: the only `unsafe` of the door.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr,
};

use anyhow::{Context, bail};
use libloading::Library;

use crate::exception::Exception;

/// A `chdb_connection`, `chdb_result *` or `chdb_insert_stream`: opaque to us.
type Handle = *mut c_void;

/// What takes a statement and a format, each with its length, and the names and values of parameters with theirs.
type Call = unsafe extern "C" fn(
    Handle,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> Handle;

macro_rules! api {
    ($($name:ident: $type:ty;)*) => {
        #[derive(Clone, Copy)]
        struct Api { $($name: $type,)* }

        impl Api {
            fn load(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: these are the declarations of `chdb.h`.
                Ok(unsafe { Self { $($name: *library.get(stringify!($name))?,)* } })
            }
        }
    };
}

api! {
    chdb_set_signal_handlers_enabled: unsafe extern "C" fn(c_int);
    chdb_connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Handle;
    chdb_close_conn: unsafe extern "C" fn(*mut Handle);
    chdb_query_with_params_n: Call;
    chdb_stream_query_with_params_n: Call;
    chdb_stream_fetch_result: unsafe extern "C" fn(Handle, Handle) -> Handle;
    chdb_stream_cancel_query: unsafe extern "C" fn(Handle, Handle);
    chdb_stream_insert_with_params_n: Call;
    chdb_stream_append: unsafe extern "C" fn(Handle, *const c_void, usize) -> c_int;
    chdb_stream_done: unsafe extern "C" fn(Handle) -> Handle;
    chdb_stream_insert_error: unsafe extern "C" fn(Handle) -> *const c_char;
    chdb_destroy_insert_stream: unsafe extern "C" fn(Handle);
    chdb_classify_query_n: unsafe extern "C" fn(Handle, *const c_char, usize, *const c_char, usize, *mut Analysis) -> c_int;
    chdb_destroy_query_result: unsafe extern "C" fn(Handle);
    chdb_result_buffer: unsafe extern "C" fn(Handle) -> *mut c_char;
    chdb_result_length: unsafe extern "C" fn(Handle) -> usize;
    chdb_result_error: unsafe extern "C" fn(Handle) -> *const c_char;
    chdb_result_rows_read: unsafe extern "C" fn(Handle) -> u64;
    chdb_result_storage_rows_read: unsafe extern "C" fn(Handle) -> u64;
    chdb_result_storage_bytes_read: unsafe extern "C" fn(Handle) -> u64;
    chdb_result_rows_written: unsafe extern "C" fn(Handle) -> u64;
    chdb_result_bytes_written: unsafe extern "C" fn(Handle) -> u64;
}

/// `chdb_query_analysis_v1`.
#[repr(C)]
struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// What the engine's own parser says of a text.
pub(crate) struct Class {
    pub(crate) statements: u32,
    pub(crate) read_only: bool,
}

/// The engine of this process. One process has one engine, on one directory.
pub(crate) struct Engine {
    api: Api,
    /// The arguments of every connection: all must name the same directory.
    arguments: Vec<CString>,
    /// The engine stops with its last connection and is not made to be started again.
    keeper: Connection,
}

// SAFETY: the library's calls are thread-safe, and the keeper is only held, never used.
unsafe impl Sync for Engine {}

impl Engine {
    /// Loads the library and starts the engine on `data`, which no other process may be using.
    pub(crate) fn start(library: &Path, data: &Path, memory_limit: u64) -> anyhow::Result<Self> {
        // SAFETY: the initialisers of libchdb have no demands.
        let library = unsafe { Library::new(library) }
            .with_context(|| format!("cannot load {}", library.display()))?;
        // Never unloaded: the engine's threads run in it until the process ends.
        let library: &'static Library = Box::leak(Box::new(library));
        let api = Api::load(library).context("not the libchdb the door was made for (26.7.3)")?;
        // SAFETY: called before the engine starts. SIGTERM is ours to handle.
        unsafe { (api.chdb_set_signal_handlers_enabled)(0) };

        let arguments = [
            "clickhouse".to_owned(),
            format!("--path={}", data.display()),
            format!("--max_server_memory_usage={memory_limit}"),
            // The default of 5 GiB is meant for a server with a machine to itself.
            format!("--mark_cache_size={}", memory_limit / 16),
            // `clickhouse-local` takes `1 + 1` for a query; the server does not.
            "--implicit_select=0".to_owned(),
        ];
        let arguments: Vec<_> = arguments
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()?;
        let Some(keeper) = open(api, &arguments) else {
            bail!(
                "the engine did not start on {} (is another process using it?)",
                data.display()
            );
        };
        Ok(Self {
            api,
            arguments,
            keeper,
        })
    }

    /// A fresh connection, without settings of its own. Costs less than 0.1 ms.
    pub(crate) fn connect(&self) -> Result<Connection, Exception> {
        open(self.api, &self.arguments)
            .ok_or_else(|| Exception::new(1001, "STD_EXCEPTION", "The engine refused a connection"))
    }

    /// Closes the engine, if no other connection is open.
    pub(crate) fn stop(self) {
        drop(self.keeper);
    }
}

fn open(api: Api, arguments: &[CString]) -> Option<Connection> {
    let mut pointers: Vec<_> = arguments
        .iter()
        .map(|one| one.as_ptr().cast_mut())
        .collect();
    // SAFETY: the arguments outlive the call, which does not write to them.
    let handle = unsafe { (api.chdb_connect)(pointers.len() as c_int, pointers.as_mut_ptr()) };
    (!handle.is_null()).then_some(Connection { api, handle })
}

/// A connection runs one statement at a time, which `&mut self` and the borrows of [`Rows`] and
/// [`Insert`] see to.
pub(crate) struct Connection {
    api: Api,
    handle: *mut Handle,
}

// SAFETY: a connection is bound to no thread, only to one user at a time.
unsafe impl Send for Connection {}

impl Connection {
    fn raw(&self) -> Handle {
        // SAFETY: `chdb_connect` returned it, and it is closed only on drop.
        unsafe { *self.handle }
    }

    /// Runs a statement to its end. `parameters` fill `{name:Type}`, their values in the
    /// escaped form of TabSeparated, as over HTTP.
    pub(crate) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Output, Exception> {
        let query = self.api.chdb_query_with_params_n;
        Output::of(self.api, self.call(query, sql, format, parameters))
    }

    /// Runs a SELECT, to be fetched block by block.
    pub(crate) fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Rows<'_>, Exception> {
        let query = self.api.chdb_stream_query_with_params_n;
        Ok(Rows {
            stream: Output::of(self.api, self.call(query, sql, format, parameters))?,
            connection: self,
            ended: false,
        })
    }

    /// Begins an INSERT whose data follow in `format`.
    pub(crate) fn insert(
        &mut self,
        head: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Insert<'_>, Exception> {
        let insert = self.api.chdb_stream_insert_with_params_n;
        let stream = self.call(insert, head, format, parameters);
        // Wrapped before it is looked at: a failed one must be destroyed too.
        let insert = Insert {
            connection: self,
            stream,
        };
        // SAFETY: a live stream.
        match text(unsafe { (insert.connection.api.chdb_stream_insert_error)(stream) }) {
            Some(error) => Err(Exception::from_engine(&error)),
            None => Ok(insert),
        }
    }

    pub(crate) fn classify(&mut self, sql: &[u8]) -> Class {
        let mut analysis = Analysis {
            struct_size: size_of::<Analysis>() as u32,
            statement_count: 0,
            flags: 0,
            query_class: 4,
        };
        // SAFETY: a live connection, a text with its length, a struct with its size.
        unsafe {
            (self.api.chdb_classify_query_n)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                ptr::null(),
                0,
                &mut analysis,
            )
        };
        Class {
            statements: analysis.statement_count,
            read_only: analysis.query_class == 0,
        }
    }

    fn call(
        &self,
        function: Call,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Handle {
        let names: Vec<_> = parameters
            .iter()
            .map(|(name, _)| name.as_ptr().cast())
            .collect();
        let name_lengths: Vec<_> = parameters.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<_> = parameters
            .iter()
            .map(|(_, value)| value.as_ptr().cast())
            .collect();
        let value_lengths: Vec<_> = parameters.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: a live connection, and every pointer with its length; all outlive the call.
        unsafe {
            function(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once.
        unsafe { (self.api.chdb_close_conn)(self.handle) };
    }
}

/// What a statement returned.
pub(crate) struct Output {
    api: Api,
    result: Handle,
}

impl Output {
    /// Unless it is an error.
    fn of(api: Api, result: Handle) -> Result<Self, Exception> {
        if result.is_null() {
            let message = "The engine returned nothing";
            return Err(Exception::new(1001, "STD_EXCEPTION", message));
        }
        let output = Self { api, result };
        // SAFETY: a live result.
        match text(unsafe { (api.chdb_result_error)(result) }) {
            Some(error) => Err(Exception::from_engine(&error)),
            None => Ok(output),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer lives as long as the result.
        unsafe {
            let length = (self.api.chdb_result_length)(self.result);
            if length == 0 {
                return &[];
            }
            std::slice::from_raw_parts((self.api.chdb_result_buffer)(self.result).cast(), length)
        }
    }

    /// Adds what this result says of itself to `summary`.
    pub(crate) fn count(&self, summary: &mut Summary) {
        // SAFETY: a live result.
        unsafe {
            summary.result_rows += (self.api.chdb_result_rows_read)(self.result);
            summary.read_rows += (self.api.chdb_result_storage_rows_read)(self.result);
            summary.read_bytes += (self.api.chdb_result_storage_bytes_read)(self.result);
            summary.written_rows += (self.api.chdb_result_rows_written)(self.result);
            summary.written_bytes += (self.api.chdb_result_bytes_written)(self.result);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: ours alone.
        unsafe { (self.api.chdb_destroy_query_result)(self.result) };
    }
}

/// The numbers of `X-ClickHouse-Summary`.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) read_rows: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_rows: u64,
    pub(crate) written_bytes: u64,
    pub(crate) result_rows: u64,
}

/// A running SELECT. Dropped before its end, it is cancelled.
pub(crate) struct Rows<'a> {
    connection: &'a mut Connection,
    stream: Output,
    ended: bool,
}

impl Rows<'_> {
    /// The next block, as a whole document of the format; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Output>, Exception> {
        let api = self.connection.api;
        // SAFETY: a live connection and its live stream.
        let result =
            unsafe { (api.chdb_stream_fetch_result)(self.connection.raw(), self.stream.result) };
        let block = Output::of(api, result).inspect_err(|_| self.ended = true)?;
        self.ended = block.bytes().is_empty();
        Ok((!self.ended).then_some(block))
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: a live connection and its live stream.
            unsafe {
                (self.connection.api.chdb_stream_cancel_query)(
                    self.connection.raw(),
                    self.stream.result,
                )
            };
        }
    }
}

/// A running INSERT. Dropped before [`Insert::finish`], it is cancelled: what the engine had not
/// yet written as a block of its own is gone.
pub(crate) struct Insert<'a> {
    connection: &'a mut Connection,
    stream: Handle,
}

impl Insert<'_> {
    /// Hands over some bytes of the data, waiting while the engine is behind. False if the
    /// INSERT has failed, which [`Insert::finish`] then explains.
    pub(crate) fn append(&mut self, data: &[u8]) -> bool {
        // SAFETY: a live stream; the bytes are copied.
        unsafe {
            (self.connection.api.chdb_stream_append)(self.stream, data.as_ptr().cast(), data.len())
                == 0
        }
    }

    /// Commits.
    pub(crate) fn finish(self) -> Result<Output, Exception> {
        let api = self.connection.api;
        // SAFETY: a live stream, finished once.
        Output::of(api, unsafe { (api.chdb_stream_done)(self.stream) })
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: begun once, destroyed once.
        unsafe { (self.connection.api.chdb_destroy_insert_stream)(self.stream) };
    }
}

/// Ends the process at once. Its ordinary end would take the library's globals from under an engine
/// that is still running.
pub(crate) fn leave() -> ! {
    // SAFETY: runs nothing.
    unsafe { libc::_exit(0) }
}

fn text(message: *const c_char) -> Option<String> {
    // SAFETY: null or a C string that lives as long as what it was asked of.
    (!message.is_null()).then(|| {
        unsafe { CStr::from_ptr(message) }
            .to_string_lossy()
            .into_owned()
    })
}
